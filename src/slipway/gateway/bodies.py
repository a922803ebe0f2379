"""How much of request bodies one worker holds just now: what it could not hold would end it, and all others with it."""

from __future__ import annotations

from slipway.domain.errors import BodiesTooMany


class Bodies:
    """Bytes of the bodies of all calls that are being answered, of those that did not come at once."""

    def __init__(self) -> None:
        self.held = 0

    def take(self, size: int, *, own: int, most: int) -> None:
        """Counts more of a body, of which `own` is counted already. Raises `BodiesTooMany` where that would be more
        than `most` in all; one alone never is too many."""
        if self.held > own and self.held + size > most:
            raise BodiesTooMany(most / 1_000_000)
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


bodies = Bodies()
"""Those of this process."""
