"""The word index of a project's traces: blocks of postings, small ones merged as they add up, read bucket by bucket."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from slipway.store.databases.base import Database
from slipway.store.schema import word_block, word_members
from slipway.store.word_blocks import (
    BUCKETS,
    MOST_SLOTS,
    Postings,
    cut_in_buckets,
    decode,
    encode,
    find_in,
    merge,
    postings_of,
    wanted,
    without_slots,
)

WHOLE = -1
"""Bucket of a loose block: it is too small to be worth cutting."""
LOOSE_TRACES = 300
LOOSE_BLOCKS = 32
"""So many loose blocks are merged into one; it is cut into buckets when it holds 300 traces or more."""
Numbers = NDArray[np.int64]


class WordIndex:
    """Finds numbers of traces (`trace.id`) by words. Changes belong into the transaction that holds the project."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def add(self, connection: Connection, traces: Sequence[tuple[int, bytes]]) -> None:
        """Adds (number of the trace, what `searchable` made of its texts). A trace may come again with other texts."""
        for at in range(0, len(traces), MOST_SLOTS):
            some = traces[at : at + MOST_SLOTS]
            postings = postings_of([line for _, line in some])
            if len(postings):
                self._write(connection, postings, np.array([number for number, _ in some], dtype=np.int64))

    def find(self, connection: Connection, words: Sequence[str]) -> tuple[Numbers, bool]:
        """Numbers of the traces that hold every word, in order; False when some may only hold words that begin alike.

        `words` are those of `query_words`; none finds nothing.
        """
        slots: dict[int, NDArray[np.int64]] | None = None
        exact = True
        for word in words:
            what = wanted(word)
            exact = exact and what.exact
            statement = select(word_block.c.block, word_block.c.body).where(
                word_block.c.project == self.project, word_block.c.bucket.in_((WHOLE, what.bucket))
            )
            found: dict[int, NDArray[np.int64]] = {}
            for block, body in connection.execute(statement):
                if slots is not None and block not in slots:
                    continue
                here = find_in(body, what)
                if slots is not None:
                    here = np.intersect1d(here, slots[block], assume_unique=True)
                if len(here):
                    found[block] = here
            slots = found
            if not slots:
                break
        return self._numbers(connection, slots or {}), exact

    def remove(self, connection: Connection, numbers: Iterable[int]) -> None:
        """Takes traces out of the index; blocks that held them are written anew without their postings."""
        gone = np.array(sorted(numbers), dtype=np.int64)
        if not len(gone):
            return
        statement = select(word_members).where(
            word_members.c.project == self.project,
            word_members.c.lowest <= int(gone[-1]),
            word_members.c.highest >= int(gone[0]),
        )
        for row in connection.execute(statement).all():
            members = _members(row)
            dead = np.flatnonzero(np.isin(members, gone))
            if len(dead):
                self._take_out(connection, row, members, dead)

    def clear(self, connection: Connection) -> None:
        """Empties the index, to build it anew."""
        for table in (word_block, word_members):
            connection.execute(delete(table).where(table.c.project == self.project))

    def _numbers(self, connection: Connection, slots: dict[int, NDArray[np.int64]]) -> Numbers:
        if not slots:
            return np.empty(0, np.int64)
        statement = select(word_members).where(word_members.c.project == self.project)
        if len(slots) <= 200:
            statement = statement.where(word_members.c.block.in_(slots))
        found = [_members(row)[slots[row.block]] for row in connection.execute(statement) if row.block in slots]
        numbers = np.unique(np.concatenate(found))
        return numbers[numbers > 0]

    def _write(self, connection: Connection, postings: Postings, members: Numbers) -> None:
        mine = word_members.c.project == self.project
        last = connection.execute(select(func.max(word_members.c.block)).where(mine)).scalar() or 0
        self._insert(connection, last + 1, postings, members)
        if len(members) >= LOOSE_TRACES:
            return
        loose = connection.execute(select(word_members).where(mine, word_members.c.loose).order_by("block")).all()
        if len(loose) >= LOOSE_BLOCKS:
            self._merge(connection, last + 2, loose)

    def _merge(self, connection: Connection, block: int, loose: Sequence[Row[Any]]) -> None:
        bodies = {
            row.block: row.body
            for row in connection.execute(
                select(word_block.c.block, word_block.c.body).where(
                    word_block.c.project == self.project, word_block.c.bucket == WHOLE
                )
            )
        }
        # One block takes up all that are loose: 32 of fewer than 300 traces are more than fit only now and then.
        parts: list[tuple[Postings, int]] = []
        members: list[Numbers] = []
        taken = 0
        for row in loose:
            own = _members(row)
            if taken + len(own) > MOST_SLOTS:
                break
            parts.append((decode(bodies[row.block]), taken))
            members.append(own)
            taken += len(own)
            self._delete(connection, row.block)
        self._insert(connection, block, merge(parts), np.concatenate(members))

    def _insert(self, connection: Connection, block: int, postings: Postings, members: Numbers) -> None:
        loose = len(members) < LOOSE_TRACES
        alive = members[members > 0]
        connection.execute(
            insert(word_members).values(
                project=self.project,
                block=block,
                loose=loose,
                lowest=int(alive.min()),
                highest=int(alive.max()),
                body=members.astype("<i8").tobytes(),
            )
        )
        bodies = [(WHOLE, encode(postings))] if loose else cut_in_buckets(postings)
        self.database.insert_rows(
            connection,
            word_block,
            ("project", "bucket", "block", "body"),
            [(self.project, bucket, block, body) for bucket, body in bodies],
        )

    def _delete(self, connection: Connection, block: int) -> None:
        for table in (word_block, word_members):
            where = [table.c.project == self.project, table.c.block == block]
            if table is word_block:
                # Named one by one, they are found by the key.
                where.append(word_block.c.bucket.in_(range(WHOLE, BUCKETS)))
            connection.execute(delete(table).where(*where))

    def _take_out(self, connection: Connection, row: Row[Any], members: Numbers, dead: NDArray[np.int64]) -> None:
        members = members.copy()
        members[dead] = 0
        if not members.any():
            self._delete(connection, row.block)
            return
        connection.execute(
            update(word_members)
            .where(word_members.c.project == self.project, word_members.c.block == row.block)
            .values(body=members.astype("<i8").tobytes())
        )
        bucket_of = select(word_block.c.bucket, word_block.c.body).where(
            word_block.c.project == self.project,
            word_block.c.bucket.in_(range(WHOLE, BUCKETS)),
            word_block.c.block == row.block,
        )
        for bucket, body in connection.execute(bucket_of).all():
            before = decode(body)
            after = without_slots(before, dead)
            if len(after) == len(before):
                continue
            here = (
                word_block.c.project == self.project,
                word_block.c.bucket == bucket,
                word_block.c.block == row.block,
            )
            if len(after):
                connection.execute(update(word_block).where(*here).values(body=encode(after)))
            else:
                connection.execute(delete(word_block).where(*here))


def _members(row: Row[Any]) -> Numbers:
    """Numbers of the traces by slot; 0 for those that were taken out."""
    return np.frombuffer(row.body, "<i8").astype(np.int64)
