"""How many connections one worker holds, by the files that it may have open, and which go when more come."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Collection
from typing import Protocol

if sys.platform != "win32":
    import resource

log = logging.getLogger("slipway.gateway")
MOST_FILES = 1 << 20
"""Where the system sets no limit."""
MOST_CONNECTIONS = 10_000
"""A stream at work takes 24 KB. More workers hold more."""
OTHER_FILES = 256
"""For the store, the journal, connections to engines that are kept; of a small limit at most half."""
LOOK_EVERY_S = 0.05
LOG_EVERY_S = 60.0
AT_ONCE = 32


class Guest(Protocol):
    """A client connection."""

    @property
    def idle(self) -> bool:
        """Whether nothing of a request came and nobody waits for an answer."""
        ...

    def leave(self) -> None:
        """Closes an idle connection."""
        ...


class Crowd:
    """The connections of one worker. `most` may be there at once: a request needs a second one, to its engine."""

    def __init__(self, files: int | None = None) -> None:
        files = open_files() if files is None else files
        self.most = min(MOST_CONNECTIONS, max(8, (files - min(OTHER_FILES, files // 2)) // 2))
        self._looked_at = self._logged_at = float("-inf")
        self._leaving = 0
        """Connections that were told to close, for as many newcomers."""

    def has_room(self, guests: Collection[Guest], newest: Guest) -> bool:
        """Whether the newest connection can stay; idle ones make room for it."""
        if len(guests) <= self.most:
            return True
        if self._leaving:
            self._leaving -= 1
            return True
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = now
        idle = [guest for guest in guests if guest.idle and guest is not newest][:AT_ONCE]
        for guest in idle:
            guest.leave()
        self._leaving = max(0, len(idle) - 1)
        if not idle and now - self._logged_at > LOG_EVERY_S:
            self._logged_at = now
            log.warning(
                "requests are refused: %d connections are at work, as many as this worker may hold. "
                "More workers hold more (--workers), and so does a higher limit of open files (ulimit -n)",
                self.most,
            )
        return bool(idle)


def open_files() -> int:
    """How many files this process may have open, once it has raised its soft limit to the hard one: shells and systemd
    set 1,024, for programs that cannot deal with more."""
    if sys.platform == "win32":
        return MOST_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            return soft
    return min(wanted, MOST_FILES)
