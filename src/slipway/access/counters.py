"""Numbers that all workers of a server count together: a mapped file under a lock, a row for each holder of limits.

A row holds the requests and tokens of the last minute second by second, the month's spending as the store knows it,
what was spent since and not written down yet, and what is reserved for requests in flight. The last two are kept for
each worker too: when one dies, the others take over what it had not written down and give back what it had reserved.
Taking the lock costs about a microsecond; nobody holds it for longer than a few.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # a system without Unix locks: there, a server has one worker
    fcntl = None  # type: ignore[assignment]

MAGIC = 0x736C6970_0001
WORKERS = 32
ROWS = 4096
WORD = 8
NAME_WORDS = 6
LONGEST_HOLDER = NAME_WORDS * WORD
SECONDS = 60
"""The running second of the clock and the 59 before it."""
WINDOW = 2 + SECONDS
"""Second that was counted last, sum of all, then a count for each second."""
REQUESTS = NAME_WORDS + 1
TOKENS = REQUESTS + WINDOW
MONTH = TOKENS + WINDOW
"""Period, spent and requests as the store knows, then `UNSETTLED` of all workers, then of each."""
PERIOD, KNOWN, KNOWN_REQUESTS = MONTH, MONTH + 1, MONTH + 2
ALL = MONTH + 3
RESERVED, MICROS, CALLS, TOKENS_USED = range(4)
UNSETTLED = 4
EACH = ALL + UNSETTLED
ROW = EACH + WORKERS * UNSETTLED
HEAD = 2 + WORKERS * 3
"""Magic, number of rows in use, then for each worker: process id, token, time it was last seen (seconds)."""
SILENT_S = 10
"""A worker that was not seen for so long counts as dead, even where another process got its number."""


class Left(NamedTuple):
    """What a dead worker had not written down."""

    holder: str
    period: int
    micros: int
    requests: int
    tokens: int


class Counters:
    """The table of one server. `path` None keeps it in this process alone. `words` may be used under `locked` only.

    `worker` is the wished place among the workers; where somebody alive has it, another one is taken.
    """

    def __init__(
        self, path: Path | None = None, *, worker: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        size = (HEAD + ROWS * ROW) * WORD
        self._clock = clock
        self._file = -1
        if path is None:
            self._map = mmap.mmap(-1, size)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._file, size)
            self._map = mmap.mmap(self._file, size)
        self._shared = self._file >= 0 and fcntl is not None
        self.words = memoryview(self._map).cast("q")
        self._thread = threading.Lock()
        self._rows: dict[str, int] = {}
        self._left: list[Left] = []
        self._token = int.from_bytes(os.urandom(7), "big") or 1
        self.worker = 0
        with self.locked():
            if self.words[0] != MAGIC:
                self._map[:] = bytes(size)
                self.words[0] = MAGIC
            self._claim(worker % WORKERS)

    def locked(self) -> Counters:
        """The words, for nobody else meanwhile: `with counters.locked() as words`. Only for a few steps, and nothing in
        them may wait."""
        return self

    # Not by `contextmanager`, which costs as much as all that is done inside.

    def __enter__(self) -> memoryview:
        self._thread.acquire()
        if self._shared:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except BaseException:
                self._thread.release()
                raise
        return self.words

    def __exit__(self, *_: object) -> None:
        try:
            if self._shared:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._thread.release()

    def row(self, holder: str) -> int:
        """Where the words of a holder begin; a new row where there is none. Under `locked`.

        When the table is full, the row that was used longest ago and has nothing unsettled is given away.
        """
        found = self._rows.get(holder)
        name = _name(holder)
        if found is not None and self._map[found * WORD : found * WORD + LONGEST_HOLDER] == name:
            self.words[found + NAME_WORDS] = int(self._clock())
            return found
        at = self._search(name)
        if at is None:
            at = self._new_row()
            self._map[at * WORD : (at + ROW) * WORD] = bytes(ROW * WORD)
            self._map[at * WORD : at * WORD + LONGEST_HOLDER] = name
        self._rows[holder] = at
        self.words[at + NAME_WORDS] = int(self._clock())
        return at

    def add(self, row: int, which: int, amount: int) -> None:
        """Adds to one of the unsettled numbers of this worker, never below zero. Under `locked`."""
        words = self.words
        own = row + EACH + self.worker * UNSETTLED + which
        amount = max(amount, -words[own])
        words[own] += amount
        words[row + ALL + which] += amount

    @property
    def known_rows(self) -> Mapping[str, int]:
        """Holders whose rows this process has used."""
        return self._rows

    def beat(self) -> list[Left]:
        """Says that this worker lives, looks whether the others do, and returns what dead ones left unwritten."""
        with self.locked() as words:
            own = 2 + self.worker * 3
            if words[own + 1] != self._token:
                self._claim(self.worker)  # we were silent for too long, and were taken for dead
            else:
                words[own + 2] = int(self._clock())
            self._bury()
            left, self._left = self._left, []
        return left

    def close(self) -> None:
        """Leaves the place among the workers; unsettled numbers must be written down by now."""
        with self.locked() as words:
            own = 2 + self.worker * 3
            if words[own + 1] == self._token:
                words[own : own + 3] = memoryview(bytes(3 * WORD)).cast("q")
        self.words.release()
        self._map.close()
        if self._file >= 0:
            os.close(self._file)

    # Workers -----------------------------------------------------------------------------------------------------

    def _claim(self, wished: int) -> None:
        alone = self._bury() == 0
        places = [wished, *(place for place in range(WORKERS) if place != wished)]
        free = [place for place in places if self.words[2 + place * 3] == 0]
        self.worker = free[0] if free else wished
        own = 2 + self.worker * 3
        self.words[own], self.words[own + 1], self.words[own + 2] = os.getpid(), self._token, int(self._clock())
        if alone:
            # What the store knew then may be outdated: whoever starts first reads it anew.
            for row in self._used():
                self.words[row + PERIOD] = 0

    def _bury(self) -> int:
        """Frees the places of dead workers; returns how many others live."""
        alive, now = 0, int(self._clock())
        for place in range(WORKERS):
            at = 2 + place * 3
            process, seen = self.words[at], self.words[at + 2]
            if process == 0 or self.words[at + 1] == self._token:
                continue
            if now >= seen > now - SILENT_S and _alive(process):
                alive += 1
                continue
            self.words[at] = self.words[at + 1] = self.words[at + 2] = 0
            self._inherit(place)
        return alive

    def _inherit(self, place: int) -> None:
        for row in self._used():
            own = row + EACH + place * UNSETTLED
            _, micros, requests, tokens = self.words[own : own + UNSETTLED]
            if micros or requests or tokens:
                self._left.append(Left(self._holder(row), self.words[row + PERIOD], micros, requests, tokens))
            for which in range(UNSETTLED):
                self.words[row + ALL + which] -= self.words[own + which]
                self.words[own + which] = 0

    # Rows --------------------------------------------------------------------------------------------------------

    def _used(self) -> range:
        return range(HEAD, HEAD + self.words[1] * ROW, ROW)

    def _search(self, name: bytes) -> int | None:
        at = HEAD * WORD
        for row in self._used():
            if self._map[at : at + LONGEST_HOLDER] == name:
                return row
            at += ROW * WORD
        return None

    def _new_row(self) -> int:
        if self.words[1] < ROWS:
            self.words[1] += 1
            return HEAD + (self.words[1] - 1) * ROW
        idle = [row for row in self._used() if not any(self.words[row + ALL : row + ALL + UNSETTLED])]
        oldest = min(idle or self._used(), key=lambda row: self.words[row + NAME_WORDS])
        self._rows.pop(self._holder(oldest), None)
        return oldest

    def _holder(self, row: int) -> str:
        return self._map[row * WORD : row * WORD + LONGEST_HOLDER].rstrip(b"\0").decode()


def _name(holder: str) -> bytes:
    name = holder.encode()
    if len(name) > LONGEST_HOLDER:
        raise ValueError(f"a holder has at most {LONGEST_HOLDER} bytes")
    return name.ljust(LONGEST_HOLDER, b"\0")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
