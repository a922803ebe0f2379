"""Numbers that all workers of a server count together: a mapped file under a lock, a row for each holder of limits.

A row holds the requests and tokens of the last minute second by second, the month's spending as the store knows it,
what was spent since and not written down yet, and what is reserved for requests in flight. The last two are kept for
each worker too: when one dies, the others take over what it had not written down and give back what it had reserved.
What a worker is writing down is marked as a numbered batch. One that dies over it leaves an orphan, and the store,
which keeps the number of the last batch beside the sums, knows whether the orphan is still to be written.
Taking the lock costs about a microsecond; nobody holds it for longer than a few.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slipway.access.row_index import RowIndex
from slipway.domain.errors import DiskFull

try:
    import fcntl
except ImportError:  # a system without Unix locks: there, a server has one worker
    fcntl = None  # type: ignore[assignment]

MAGIC = 0x736C6970_0003
WORKERS = 32
ROWS = 65_536
"""As many holders as can be counted at the same time. Room for them is taken as they come, `GROWTH` at once."""
GROWTH = 256
SLOTS = 2 * ROWS
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
"""A period below zero: what the store knew may be outdated, what is unsettled is not."""
ALL = MONTH + 3
RESERVED, MICROS, CALLS, TOKENS_USED = range(4)
UNSETTLED = 4
EACH = ALL + UNSETTLED
WRITING = EACH + WORKERS * UNSETTLED
"""For each worker what of its unsettled numbers belongs to its batch: the period in place of what is reserved."""
ROW = WRITING + WORKERS * UNSETTLED
PROCESS, TOKEN, SEEN, STARTED, BATCH = range(5)
PLACE = 5
"""Of a worker: process id (0: free, -1: dead over a batch), token, time it was last seen (seconds), when its process
began (ticks since the machine did; 0 unknown), number of the batch that it is writing down (0: none)."""
ORPHAN = -1
USED, TABLE, HAND, CHANGING, FIRST_PLACE = range(1, 6)
"""After the magic: number of rows in use, a number for this table, the row that is looked at next for one that nobody
needs, whether the index is being changed; then the workers."""
INDEX = FIRST_PLACE + WORKERS * PLACE
HEAD = INDEX + SLOTS
"""Where the rows begin, behind the index of their names."""
IDLE_S = 300
"""After how long without use another holder may get a row before the table grows: longer than anything is counted."""
LOOKED_AT = 8
"""Rows that are looked at for one of those, before the table grows."""
LOOKED_AT_WHEN_FULL = 64
MOST_REMEMBERED = 16_384
"""Rows that a process remembers by holder beside the index."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Other errors come from file systems that do not know how to take room."""
MARKED_AT_ONCE = 64
"""Rows that are marked under one lock: others wait for it."""
SILENT_S = 10
"""Where it is unknown when processes began, a worker that was not seen for so long counts as dead."""


class Batch(NamedTuple):
    """What one worker writes down at once. `token` and `number` tell it from every other batch of that `name`."""

    name: str
    token: int
    number: int


class Orphan(NamedTuple):
    """A batch of which nobody knows whether it was written down, by its place among the workers."""

    place: int
    batch: Batch
    parts: list[Left]


class Left(NamedTuple):
    """What a dead worker had not written down of one holder."""

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
        before = 0
        self._clock = clock
        self._file = -1
        self._room = size
        """Bytes that there is room for on the disk, as far as this process knows."""
        if path is None:
            self._map = mmap.mmap(-1, size)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            before = os.fstat(self._file).st_size
            os.ftruncate(self._file, max(size, before))
            self._room = 0
            if not self._has_room((HEAD + GROWTH * ROW) * WORD):
                os.close(self._file)
                raise DiskFull(path)
            self._map = mmap.mmap(self._file, size)
        self._shared = self._file >= 0 and fcntl is not None
        self.words = memoryview(self._map).cast("q")
        self.own = threading.Lock()
        """Held while this worker adds to its own unsettled numbers, which no other one changes while it lives. The sums
        over all workers follow with `sum_up`."""
        self._index = RowIndex(self.words, begin=INDEX, slots=SLOTS, changing=CHANGING, name_at=self._name_at)
        self._rows: dict[str, int] = {}
        self._left: list[Left] = []
        self._batches = 0
        self._token = int.from_bytes(os.urandom(7), "big") or 1
        self.worker = 0
        with self.locked():
            if self.words[0] != MAGIC:
                # What another version of Slipway left; a new file is empty, and not written out for that.
                self._map[: min(before, size)] = bytes(min(before, size))
                self.words[0], self.words[TABLE] = MAGIC, int.from_bytes(os.urandom(7), "big")
            self._claim(worker % WORKERS)

    def locked(self) -> Counters:
        """The words, for nobody else meanwhile: `with counters.locked() as words`. Only for a few steps, and nothing in
        them may wait."""
        return self

    # Not by `contextmanager`, which costs as much as all that is done inside.

    def __enter__(self) -> memoryview:
        self.own.acquire()
        if self._shared:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except BaseException:
                self.own.release()
                raise
        return self.words

    def __exit__(self, *_: object) -> None:
        try:
            if self._shared:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self.own.release()

    def row(self, holder: str) -> int:
        """Where the words of a holder begin; a new row where there is none. Under `locked`.

        When the table is full, a row that was not used for long and has nothing unsettled is given away.
        """
        at = self.find(holder)
        if at is None:
            name = _name(holder)
            at = self._new_row()
            self._map[at * WORD : (at + ROW) * WORD] = bytes(ROW * WORD)
            self._map[at * WORD : at * WORD + LONGEST_HOLDER] = name
            self._index.add(name, at)
            self._remember(holder, at)
        self.words[at + NAME_WORDS] = int(self._clock())
        return at

    def find(self, holder: str) -> int | None:
        """As `row`, None where there is none. Under `locked`."""
        found = self.known_row(holder)
        if found is None:
            if self._index.broken:
                self._index.rebuild(self._used())
            found = self._index.find(_name(holder))
            if found is not None:
                self._remember(holder, found)
        return found

    def known_row(self, holder: str) -> int | None:
        """As `find`, where this process remembers it and nobody was given it since. Under `own` at least."""
        found = self._rows.get(holder)
        if found is None or self._name_at(found) != _name(holder):
            return None
        return found

    @property
    def alone(self) -> bool:
        """Whether no other worker has a place. Under `locked`."""
        places = self.words[FIRST_PLACE:INDEX:PLACE].tolist()
        return len(places) - places.count(0) == 1

    def sum_up(self, row: int) -> None:
        """Counts anew what all workers have not settled. Under `locked`."""
        begin, end = row + EACH, row + EACH + WORKERS * UNSETTLED
        for which in range(UNSETTLED):
            self.words[row + ALL + which] = sum(self.words[begin + which : end : UNSETTLED])

    def add(self, row: int, which: int, amount: int) -> None:
        """Adds to one of the unsettled numbers of this worker, never below zero. Under `locked`."""
        words = self.words
        own = row + EACH + self.worker * UNSETTLED + which
        amount = max(amount, -words[own])
        words[own] += amount
        words[row + ALL + which] += amount

    def beat(self) -> list[Left]:
        """Says that this worker lives, looks whether the others do, and returns what dead ones left unwritten: that is
        among the unsettled numbers of this worker now."""
        with self.locked() as words:
            own = _place(self.worker)
            if words[own + TOKEN] != self._token:
                self._claim(self.worker)  # we were silent for too long, and were taken for dead
            else:
                words[own + SEEN] = int(self._clock())
            self._bury()
            left, self._left = self._left, []
        return left

    def close(self) -> None:
        """Leaves the place among the workers; unsettled numbers must be written down by now."""
        with self.locked() as words:
            if words[_place(self.worker) + TOKEN] == self._token:
                self._free(self.worker)
        self.words.release()
        self._map.close()
        if self._file >= 0:
            os.close(self._file)

    # Batches -----------------------------------------------------------------------------------------------------

    def begin_batch(self, parts: Iterable[Left]) -> Batch:
        """Marks what of this worker's unsettled numbers is written down next. They stay unsettled until `settle`."""
        marked = list(parts)
        # Without a number yet, they are no batch: whoever dies over them leaves nothing that has to be looked up.
        for first in range(0, len(marked), MARKED_AT_ONCE):
            with self.locked() as words:
                for part in marked[first : first + MARKED_AT_ONCE]:
                    row = self.find(part.holder)
                    if row is not None and abs(words[row + PERIOD]) == part.period:
                        at = row + WRITING + self.worker * UNSETTLED
                        words[at], words[at + MICROS], words[at + CALLS], words[at + TOKENS_USED] = part[1:]
        with self.locked() as words:
            self._batches += 1
            words[_place(self.worker) + BATCH] = self._batches
            return self._batch_at(self.worker)

    def settle(self, row: int, place: int) -> None:
        """The batch of a worker is written down: its part in a row is settled. Under `locked`."""
        words = self.words
        part, own = row + WRITING + place * UNSETTLED, row + EACH + place * UNSETTLED
        same_month = words[part] == abs(words[row + PERIOD])
        for which in (MICROS, CALLS, TOKENS_USED):
            settled = min(words[part + which], words[own + which]) if same_month else 0
            words[part + which] = 0
            words[own + which] -= settled
            words[row + ALL + which] -= settled

    def end_batch(self, place: int, batch: Batch) -> list[Left]:
        """After all its rows were settled. An orphan's place becomes free with it; returned is what it had not begun to
        write down, which is among the unsettled numbers of this worker now."""
        with self.locked() as words:
            if self._batch_at(place) == batch:
                words[_place(place) + BATCH] = 0
                if words[_place(place)] == ORPHAN:
                    self._inherit(place)
                    self._free(place)
            left, self._left = self._left, []
        return left

    def orphans(self) -> list[Orphan]:
        """Batches that workers died over."""
        with self.locked() as words:
            return [
                Orphan(place, self._batch_at(place), [Left(*part) for part in self._parts(place)])
                for place in range(WORKERS)
                if words[_place(place)] == ORPHAN
            ]

    def _batch_at(self, place: int) -> Batch:
        at = _place(place)
        return Batch(f"batch:{self.words[TABLE]:x}:{place}", self.words[at + TOKEN], self.words[at + BATCH])

    def _parts(self, place: int) -> Iterator[tuple[str, int, int, int, int]]:
        for row in self._rows_with(WRITING + place * UNSETTLED + 1, UNSETTLED - 1):
            at = row + WRITING + place * UNSETTLED
            period, micros, requests, tokens = self.words[at : at + UNSETTLED]
            yield self._holder(row), period, micros, requests, tokens

    # Workers -----------------------------------------------------------------------------------------------------

    def _claim(self, wished: int) -> None:
        alone = self._bury() == 0
        places = [wished, *(place for place in range(WORKERS) if place != wished)]
        free = [place for place in places if self.words[_place(place)] == 0]
        self.worker = free[0] if free else wished
        own = _place(self.worker)
        process = os.getpid()
        claim = (process, self._token, int(self._clock()), _began(process), 0)
        for which, word in enumerate(claim):
            self.words[own + which] = word
        if alone:
            # Whoever starts first reads anew what the store knows; the clock may have begun anew with the machine.
            now = int(self._clock())
            for row in self._used():
                self.words[row + PERIOD] = -abs(self.words[row + PERIOD])
                self.words[row + NAME_WORDS] = min(self.words[row + NAME_WORDS], now)

    def _bury(self) -> int:
        """Frees the places of dead workers; returns how many others live."""
        alive = 0
        for place in range(WORKERS):
            at = _place(place)
            process = self.words[at]
            if process in (0, ORPHAN) or self.words[at + TOKEN] == self._token:
                continue
            if self._lives(place):
                alive += 1
                continue
            concerned = self._rows_with(EACH + place * UNSETTLED, UNSETTLED)
            for row in concerned:
                self.words[row + EACH + place * UNSETTLED] = 0
            if self.words[at + BATCH]:
                self.words[at] = ORPHAN
            else:
                self._inherit(place)
                self._free(place)
            for row in concerned:
                self.sum_up(row)
        return alive

    def _lives(self, place: int) -> bool:
        process, _, seen, began, _ = self.words[_place(place) : _place(place) + PLACE]
        now = int(self._clock())
        if now < seen or not _alive(process):
            return False
        return _began(process) == began if began else seen > now - SILENT_S

    def _inherit(self, place: int) -> None:
        """Takes over what a dead worker had not begun to write down."""
        for row in self._rows_with(EACH + place * UNSETTLED + 1, UNSETTLED - 1):
            dead, own = row + EACH + place * UNSETTLED, row + EACH + self.worker * UNSETTLED
            _, micros, requests, tokens = self.words[dead : dead + UNSETTLED]
            holder = self._holder(row)
            self._left.append(Left(holder, abs(self.words[row + PERIOD]), micros, requests, tokens))
            for which in (MICROS, CALLS, TOKENS_USED):
                self.words[own + which] += self.words[dead + which]
                self.words[dead + which] = 0

    def _free(self, place: int) -> None:
        for row in self._rows_with(WRITING + place * UNSETTLED, UNSETTLED):
            for which in range(UNSETTLED):
                self.words[row + WRITING + place * UNSETTLED + which] = 0
        for which in range(PLACE):
            self.words[_place(place) + which] = 0

    # Rows --------------------------------------------------------------------------------------------------------

    def _used(self) -> range:
        return range(HEAD, HEAD + self.words[USED] * ROW, ROW)

    def _rows_with(self, first: int, words: int) -> list[int]:
        """Rows in which one of some words is not 0."""
        used, found = self._used(), set[int]()
        for word in range(first, first + words):
            values = self.words[HEAD + word : used.stop : ROW].tolist()
            found.update(place for place, value in enumerate(values) if value)
        return [used[place] for place in sorted(found)]

    def _name_at(self, row: int) -> bytes:
        return self._map[row * WORD : row * WORD + LONGEST_HOLDER]

    def _remember(self, holder: str, row: int) -> None:
        if len(self._rows) >= MOST_REMEMBERED:
            self._rows.clear()
        self._rows[holder] = row

    def _new_row(self) -> int:
        """One that nobody has used for long; else a new one; else, of all, one that was not used for a while."""
        used = len(self._used())
        row = self._pass_on(LOOKED_AT, unused_since=int(self._clock()) - IDLE_S) if used else None
        if row is not None:
            return row
        if used < ROWS and self._has_room((HEAD + (used + 1) * ROW) * WORD):
            self.words[USED] += 1
            return HEAD + used * ROW
        for _ in range(0, used, LOOKED_AT_WHEN_FULL):
            row = self._pass_on(LOOKED_AT_WHEN_FULL)
            if row is not None:
                return row
        return self._take(min(self._used(), key=lambda row: self.words[row + NAME_WORDS]))

    def _pass_on(self, number: int, *, unused_since: int | None = None) -> int | None:
        """Of the next so many rows, going round, the one that was used longest ago of those with nothing unsettled."""
        words, used = self.words, self._used()
        hand = words[HAND]
        seen = [used[place % len(used)] for place in range(hand, hand + min(number, len(used)))]
        words[HAND] = (hand + len(seen)) % len(used)
        idle = [row for row in seen if not any(words[row + ALL : row + ALL + UNSETTLED])]
        oldest = min(idle, key=lambda row: words[row + NAME_WORDS], default=None)
        if oldest is None or (unused_since is not None and words[oldest + NAME_WORDS] >= unused_since):
            return None
        return self._take(oldest)

    def _take(self, row: int) -> int:
        self._rows.pop(self._holder(row), None)
        self._index.remove(self._name_at(row), row)
        return row

    def _has_room(self, end: int) -> bool:
        """Whether the file has room on the disk up to there; it is taken now. Where the disk is full, words
        without room would end the process that writes them."""
        if end > self._room:
            more = max(end - self._room, GROWTH * ROW * WORD)
            try:
                _take_room(self._file, self._room, more)
            except OSError as wrong:
                if wrong.errno in NO_ROOM:
                    return False
            self._room += more
        return True

    def _holder(self, row: int) -> str:
        return self._map[row * WORD : row * WORD + LONGEST_HOLDER].rstrip(b"\0").decode()


def _take_room(file: int, begin: int, length: int) -> None:
    """Raises `OSError` where there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, begin, length)


def _place(worker: int) -> int:
    return FIRST_PLACE + worker * PLACE


@lru_cache(maxsize=MOST_REMEMBERED)
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


def _began(process: int) -> int:
    """When a process began, in ticks since the machine did: no other one of the same number did then. 0 is unknown, and
    -1 one that has ended and was not cleared away yet."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0
