"""Where the row of each holder lies: a hash table in the words that all workers of a server share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from zlib import crc32

NameAt = Callable[[int], bytes]


class RowIndex:
    """Rows by name, in `slots` words (a power of two, at least twice as many as rows) from `begin` on. A word holds a
    row or 0. Everything under the lock of the table.

    Open addressing with linear probing; what is removed leaves no mark, but what comes after it moves up (D. E. Knuth,
    The Art of Computer Programming, volume 3, section 6.4, algorithm R). The word at `changing` says that somebody is
    at it: where one was killed over that, the table is made anew from the rows.
    """

    __slots__ = ("_begin", "_changing", "_last", "_name_at", "_words")

    def __init__(self, words: memoryview, *, begin: int, slots: int, changing: int, name_at: NameAt) -> None:
        self._words, self._begin, self._last, self._changing, self._name_at = words, begin, slots - 1, changing, name_at

    @property
    def broken(self) -> bool:
        """Whether somebody was killed over a change; then `rebuild` comes before all else."""
        return bool(self._words[self._changing])

    def find(self, name: bytes) -> int | None:
        words, begin, last = self._words, self._begin, self._last
        slot = crc32(name) & last
        while row := words[begin + slot]:
            if self._name_at(row) == name:
                return int(row)
            slot = (slot + 1) & last
        return None

    def add(self, name: bytes, row: int) -> None:
        """A row that has its name already, and is not here yet."""
        self._words[self._changing] = 1
        self._put(name, row)
        self._words[self._changing] = 0

    def remove(self, name: bytes, row: int) -> None:
        """A row that still has its name."""
        words, begin, last = self._words, self._begin, self._last
        gap = crc32(name) & last
        while words[begin + gap] != row:
            if not words[begin + gap]:
                return
            gap = (gap + 1) & last
        words[self._changing] = 1
        slot = gap
        while True:
            slot = (slot + 1) & last
            other = words[begin + slot]
            if not other:
                break
            home = crc32(self._name_at(other)) & last
            if (slot - home) & last >= (slot - gap) & last:
                words[begin + gap] = other
                gap = slot
        words[begin + gap] = 0
        words[self._changing] = 0

    def rebuild(self, rows: Iterable[int]) -> None:
        self._words[self._changing] = 1
        for slot in range(self._begin, self._begin + self._last + 1):
            if self._words[slot]:
                self._words[slot] = 0
        for row in rows:
            self._put(self._name_at(row), row)
        self._words[self._changing] = 0

    def _put(self, name: bytes, row: int) -> None:
        words, begin, last = self._words, self._begin, self._last
        slot = crc32(name) & last
        while words[begin + slot]:
            slot = (slot + 1) & last
        words[begin + slot] = row
