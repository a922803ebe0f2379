"""Pages that many traces share: sealed once per person, opened for one of them, rewritten when some are to go."""

import struct
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Row, delete, select, update

from slipway.domain.errors import ContentErased
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.schema import shared_page
from slipway.store.trace_pages import Said, press_many, said_in_entry, unpress_many

MOST_BYTES = 256 << 10
"""Of content before it is pressed: large enough to press well, small enough to open for one trace."""
KIND = "page"


Entry = tuple[int, bytes]
"""The number of a trace and what it says, as `entry_of` gives it."""


class SharedPages:
    """The shared pages of one project. Changes belong into the transaction that holds the project."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys

    def add(self, connection: Connection, entries: Mapping[str | None, Sequence[Entry]]) -> dict[int, int]:
        """Writes what traces say, by person; returns the page of each trace."""
        groups = [(subject, some) for subject, all_of in entries.items() for some in _cut(all_of)]
        if not groups:
            return {}
        numbers = self.database.dialect.next_ids(connection, "shared_page", len(groups))
        rows, placed = [], {}
        for page, (subject, some) in zip(numbers, groups, strict=True):
            members = [number for number, _ in some]
            rows.append((page, self.project, subject, _pack(members), self._seal(connection, page, subject, some)))
            placed.update(dict.fromkeys(members, page))
        columns = ("id", "project", "subject", "members", "body")
        self.database.insert_rows(connection, shared_page, columns, rows)
        return placed

    def open(self, connection: Connection, wanted: Mapping[int, Iterable[int]]) -> dict[int, list[Said]]:
        """What traces say, by their number. `wanted` names the traces of each page; people who were erased are missing.

        Raises `ContentDamaged`.
        """
        said: dict[int, list[Said]] = {}
        for row in self._rows(connection, wanted):
            try:
                entries = unpress_many(self._open(connection, row))
            except ContentErased:
                continue
            places = {number: place for place, number in enumerate(_unpack(row.members))}
            for number in wanted[row.id]:
                if number in places:
                    said[number] = said_in_entry(entries[places[number]])
        return said

    def take_out(self, connection: Connection, gone: Mapping[int, Iterable[int]]) -> None:
        """Takes traces out of their pages; a page that holds nothing else goes, others are written anew."""
        for row in self._rows(connection, gone):
            leaving = set(gone[row.id])
            members = _unpack(row.members)
            staying = [number for number in members if number and number not in leaving]
            here = shared_page.c.id == row.id
            if not staying:
                connection.execute(delete(shared_page).where(here))
                continue
            try:
                entries = unpress_many(self._open(connection, row))
            except ContentErased:
                # Nobody can read it any more, so that it can stay as it is.
                kept = _pack([0 if number in leaving else number for number in members])
                connection.execute(update(shared_page).where(here).values(members=kept))
                continue
            some = [
                (number, bytes(entry))
                for number, entry in zip(members, entries, strict=True)
                if number and number not in leaving
            ]
            body = self._seal(connection, row.id, row.subject, some)
            connection.execute(update(shared_page).where(here).values(members=_pack(staying), body=body))

    def _rows(self, connection: Connection, pages: Iterable[int]) -> Iterable[Row[tuple[int, str, str, bytes, bytes]]]:
        wanted = list(pages)
        for at in range(0, len(wanted), 100):
            statement = select(shared_page).where(
                shared_page.c.id.in_(wanted[at : at + 100]), shared_page.c.project == self.project
            )
            yield from connection.execute(statement).all()

    def _seal(self, connection: Connection, page: int, subject: str | None, some: Sequence[Entry]) -> bytes:
        packed = press_many([entry for _, entry in some])
        return self.keys.seal(connection, packed, subject=subject, kind=KIND, id=str(page))

    def _open(self, connection: Connection, row: Row[tuple[int, str, str, bytes, bytes]]) -> bytes:
        return self.keys.open(connection, row.body, kind=KIND, id=str(row.id))


def _cut(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    begin = size = 0
    for at, (_, entry) in enumerate(entries):
        if size and size + len(entry) > MOST_BYTES:
            yield entries[begin:at]
            begin, size = at, 0
        size += len(entry)
    if begin < len(entries):
        yield entries[begin:]


def _pack(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _unpack(members: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(members) // 8}q", members)
