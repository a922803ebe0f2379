"""Whose limits and budgets one request is counted under, and what was set aside for it."""

from __future__ import annotations

from slipway.access.budgets import Reservation
from slipway.access.limits import Allowance, Remaining


class Account:
    """The allowances of one request: those of its key, its person and the project."""

    __slots__ = ("allowances", "left", "limited", "reservation", "taken", "taken_at")

    def __init__(self, allowances: list[Allowance]) -> None:
        self.allowances = allowances
        self.limited = any(one.limited for one in allowances)
        self.left: dict[str, Remaining] = {}
        """What is left of the minute's `requests` and `tokens`."""
        self.reservation: Reservation | None = None
        self.taken = 0
        """Tokens counted beforehand, in the second `taken_at`."""
        self.taken_at = 0

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`x-ratelimit-…`, as clients of OpenAI read them."""
        headers = []
        for what, one in self.left.items():
            name = what.encode("ascii")
            headers.append((b"x-ratelimit-limit-" + name, b"%d" % one.limit))
            headers.append((b"x-ratelimit-remaining-" + name, b"%d" % one.remaining))
            headers.append((b"x-ratelimit-reset-" + name, b"%ds" % one.reset_s))
        return headers
