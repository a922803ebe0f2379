"""The word index of a project's traces: blocks of postings, small ones merged as they add up, read bucket by bucket."""

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from slipway.store.databases.base import Database
from slipway.store.schema import word_block, word_members
from slipway.store.word_blocks import (
    BUCKETS,
    MOST_SLOTS,
    Postings,
    Slots,
    Wanted,
    count_in,
    cut_in_buckets,
    decode,
    encode,
    find_in,
    merge,
    postings_of,
    searchable,
    wanted,
    without_slots,
)

WHOLE = -1
"""Bucket of a loose block: it is too small to be worth cutting."""
LOOSE_TRACES = 300
LOOSE_BLOCKS = 32
"""So many loose blocks are merged into one; it is cut into buckets when it holds 300 traces or more."""
WORTH_SHARING = 24
"""Characters from which on a text that several traces say, such as a system prompt, gets a slot of its own."""
Numbers = NDArray[np.int64]
_NOBODY: Numbers = np.empty(0, np.int64)
_MEMBERS = ("project", "block", "loose", "lowest", "highest", "body")
_BLOCK = ("project", "bucket", "block", "body")


class Members(msgspec.Struct, array_like=True):
    """What the slots of a block stand for: the number of a trace each, or 0 where it was taken out.

    A slot in `shared` stands for all the slots of traces that say the same text; its words are kept once.
    """

    numbers: bytes
    shared: dict[int, list[int]]

    @property
    def traces(self) -> Numbers:
        return np.frombuffer(self.numbers, "<i8").astype(np.int64)

    def traces_of(self, slots: Slots) -> Numbers:
        """Numbers of the traces that slots stand for, in order."""
        found = [self.traces[slots[slots < len(self.numbers) // 8]]]
        found.extend(self.traces[self.shared[slot]] for slot in slots.tolist() if slot in self.shared)
        numbers = np.unique(np.concatenate(found))
        return numbers[numbers > 0]


class _Line(NamedTuple):
    """A row of `word_members` without the project."""

    block: int
    members: Members


class WordIndex:
    """Finds numbers of traces (`trace.id`) by words. Changes belong into the transaction that holds the project."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def add(self, connection: Connection, traces: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Adds (number of the trace, its texts). A trace may come again with other texts."""
        for at in range(0, len(traces), MOST_SLOTS // 2):
            some = traces[at : at + MOST_SLOTS // 2]
            lines, shared = _lines_of([texts for _, texts in some])
            postings = postings_of(lines)
            if len(postings):
                numbers = np.array([number for number, _ in some], dtype="<i8").tobytes()
                self._write(connection, postings, Members(numbers, shared))

    def find(self, connection: Connection, words: Sequence[str]) -> tuple[Numbers, bool]:
        """Numbers of the traces that hold every word, in order; False when some may only hold words that begin alike.

        `words` are those of `query_words`; none finds nothing.
        """
        hits: list[tuple[int, dict[int, bytes], Wanted]] = []
        for what in map(wanted, words):
            sql = "select block, body from word_block where project = ? and bucket in (?, ?)"
            rows = self.database.raw(connection, sql, (self.project, WHOLE, what.bucket))
            counts = [(row, count) for row in rows if (count := count_in(row.body, what))]
            hits.append((sum(count for _, count in counts), {row.block: row.body for row, _ in counts}, what))
        # The rarest word first: of the others, only blocks that hold one of its traces are looked into.
        hits.sort(key=itemgetter(0))
        found: Numbers | None = None
        members: dict[int, Members] = {}
        for _, bodies, what in hits:
            blocks = set(bodies)
            if found is not None:
                blocks &= self._blocks_with(connection, found)
            members |= {line.block: line.members for line in self._members(connection, blocks - members.keys())}
            here = [members[block].traces_of(find_in(bodies[block], what)) for block in blocks]
            numbers = np.unique(np.concatenate(here)) if here else _NOBODY
            found = numbers if found is None else np.intersect1d(found, numbers, assume_unique=True)
            if not len(found):
                break
        return _NOBODY if found is None else found, all(what.exact for _, _, what in hits)

    def _blocks_with(self, connection: Connection, numbers: Numbers) -> set[int]:
        """Blocks that may hold one of these traces."""
        sql = "select block, lowest, highest from word_members where project = ?"
        rows = self.database.raw(connection, sql, (self.project,)).all()
        if not rows:
            return set()
        blocks, lowest, highest = np.array([tuple(row) for row in rows], dtype=np.int64).T
        at = np.searchsorted(numbers, lowest)
        near = numbers[np.minimum(at, len(numbers) - 1)]
        return set(blocks[(at < len(numbers)) & (near <= highest)].tolist())

    def remove(self, connection: Connection, numbers: Iterable[int]) -> None:
        """Takes traces out of the index; blocks that held them are written anew without their postings."""
        gone = np.array(sorted(numbers), dtype=np.int64)
        if not len(gone):
            return
        sql = "select block, body from word_members where project = ? and lowest <= ? and highest >= ?"
        rows = self.database.raw(connection, sql, (self.project, int(gone[-1]), int(gone[0])))
        for row in rows.fetchall():
            members = msgspec.msgpack.decode(row.body, type=Members)
            dead = np.flatnonzero(np.isin(members.traces, gone))
            if len(dead):
                self._take_out(connection, row.block, members, dead)

    def clear(self, connection: Connection) -> None:
        """Empties the index, to build it anew."""
        for table in (word_block, word_members):
            self.database.raw(connection, f"delete from {table.name} where project = ?", (self.project,))

    def _members(self, connection: Connection, blocks: Iterable[int]) -> Iterator[_Line]:
        every = list(blocks)
        for at in range(0, len(every), 400):
            some = every[at : at + 400]
            marks = ", ".join("?" * len(some))
            sql = f"select block, body from word_members where project = ? and block in ({marks})"
            for row in self.database.raw(connection, sql, (self.project, *some)):
                yield _Line(row.block, msgspec.msgpack.decode(row.body, type=Members))

    def _write(self, connection: Connection, postings: Postings, members: Members) -> None:
        sql = "select max(block) from word_members where project = ?"
        last = self.database.raw(connection, sql, (self.project,)).scalar() or 0
        if self._insert(connection, last + 1, postings, members):
            return
        sql = "select block from word_block where project = ? and bucket = ? order by block"
        loose = self.database.raw(connection, sql, (self.project, WHOLE)).scalars().all()
        if len(loose) >= LOOSE_BLOCKS:
            self._merge(connection, last + 2, loose)

    def _merge(self, connection: Connection, block: int, loose: Sequence[int]) -> None:
        """Makes one block of those that are loose: first the slots of all traces, then those of shared texts."""
        members = {line.block: line.members for line in self._members(connection, loose)}
        sql = "select block, body from word_block where project = ? and bucket = ?"
        bodies = {row.block: row.body for row in self.database.raw(connection, sql, (self.project, WHOLE))}
        taken = [*loose]
        while sum(len(members[one].traces) + len(members[one].shared) for one in taken) > MOST_SLOTS:
            taken.pop()
        up, next_shared = 0, sum(len(members[one].traces) for one in taken)
        parts: list[tuple[Postings, Slots]] = []
        shared: dict[int, list[int]] = {}
        for one in taken:
            own = members[one]
            count = len(own.traces)
            moved = np.arange(count + len(own.shared), dtype=np.int64) + up
            for slot, slots in own.shared.items():
                moved[slot] = next_shared
                shared[next_shared] = [inner + up for inner in slots]
                next_shared += 1
            parts.append((decode(bodies[one]), moved))
            up += count
            self._delete(connection, one)
        numbers = b"".join(members[one].numbers for one in taken)
        self._insert(connection, block, merge(parts), Members(numbers, shared))

    def _insert(self, connection: Connection, block: int, postings: Postings, members: Members) -> bool:
        """Whether the block was large enough to be cut into buckets."""
        alive = members.traces[members.traces > 0]
        loose = len(members.traces) < LOOSE_TRACES
        line = (self.project, block, loose, int(alive.min()), int(alive.max()), msgspec.msgpack.encode(members))
        self.database.insert_rows(connection, word_members, _MEMBERS, [line])
        bodies = [(WHOLE, encode(postings))] if loose else cut_in_buckets(postings)
        rows = [(self.project, bucket, block, body) for bucket, body in bodies]
        self.database.insert_rows(connection, word_block, _BLOCK, rows)
        return not loose

    def _delete(self, connection: Connection, block: int) -> None:
        sql = f"delete from word_block where project = ? and block = ? and bucket in ({_EVERY_BUCKET})"
        self.database.raw(connection, sql, (self.project, block))
        self.database.raw(connection, "delete from word_members where project = ? and block = ?", (self.project, block))

    def _take_out(self, connection: Connection, block: int, members: Members, dead: Slots) -> None:
        numbers = members.traces
        numbers[dead] = 0
        if not numbers.any():
            self._delete(connection, block)
            return
        gone = set(dead.tolist())
        shared = {slot: [one for one in slots if one not in gone] for slot, slots in members.shared.items()}
        # Nobody says such a text any more: its words go like those of a trace.
        gone.update(slot for slot, slots in shared.items() if not slots)
        left = Members(numbers.astype("<i8").tobytes(), shared)
        here = (self.project, block)
        sql = "update word_members set body = ? where project = ? and block = ?"
        self.database.raw(connection, sql, (msgspec.msgpack.encode(left), *here))
        sql = f"select bucket, body from word_block where project = ? and block = ? and bucket in ({_EVERY_BUCKET})"
        for row in self.database.raw(connection, sql, here).fetchall():
            before = decode(row.body)
            after = without_slots(before, gone)
            if len(after) == len(before):
                continue
            if len(after):
                sql = "update word_block set body = ? where project = ? and block = ? and bucket = ?"
                self.database.raw(connection, sql, (encode(after), *here, row.bucket))
            else:
                sql = "delete from word_block where project = ? and block = ? and bucket = ?"
                self.database.raw(connection, sql, (*here, row.bucket))


# Named one by one, the buckets of a block are found by the key.
_EVERY_BUCKET = ", ".join(map(str, range(WHOLE, BUCKETS)))


def _lines_of(traces: Sequence[Sequence[str]]) -> tuple[list[bytes], dict[int, list[int]]]:
    """What is cut into words by slot, and for slots after those of the traces, which of them say the same text."""
    own: list[list[str]] = []
    said: dict[str, list[int]] = {}
    for slot, texts in enumerate(traces):
        short = []
        for text in texts:
            if len(text) < WORTH_SHARING:
                short.append(text)
            elif text in said:
                said[text].append(slot)
            else:
                said[text] = [slot]
        own.append(short)
    shared: dict[int, list[int]] = {}
    extra: list[bytes] = []
    for text, slots in said.items():
        if len(slots) == 1 or len(traces) + len(extra) >= MOST_SLOTS:
            for slot in slots:
                own[slot].append(text)
        else:
            shared[len(traces) + len(extra)] = sorted(set(slots))
            extra.append(searchable(text))
    return [searchable("\n".join(texts)) for texts in own] + extra, shared
