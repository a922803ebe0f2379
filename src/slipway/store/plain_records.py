"""Records of any kind as plain values: what privacy reads, rewrites and removes without knowing their classes."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import delete, select, update

from slipway.domain.errors import ContentErased
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.record_writes import count_writes
from slipway.store.schema import erased, record, record_link, record_part


class PlainRecord(NamedTuple):
    """A record of any kind; members that are about people of their own are left out of `body`."""

    kind: str
    id: str
    subject: str | None
    created_us: int
    body: Any


class PlainMember(NamedTuple):
    """A member of a record (such as a case of a dataset) that is about a person of its own."""

    kind: str
    id: str
    position: int
    body: Any


class PlainRecords:
    """The records of one project."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys

    def all(self, *, subject: str | None = None) -> Iterator[PlainRecord]:
        """Every record that can be opened, oldest first; with `subject`, those that are about this person."""
        statement = select(record).where(record.c.project == self.project).order_by(record.c.created_us, record.c.id)
        if subject is not None:
            statement = statement.where(record.c.subject == subject)
        with self.database.reading() as connection:
            for row in connection.execute(statement).all():
                try:
                    body = msgspec.json.decode(self.keys.open(connection, row.body, kind=row.kind, id=row.id))
                except ContentErased:
                    continue
                yield PlainRecord(row.kind, row.id, row.subject, row.created_us, body)

    def members(self, subject: str) -> list[PlainMember]:
        """Members that are about a person."""
        statement = (
            select(record_part)
            .where(record_part.c.project == self.project, record_part.c.subject == subject)
            .order_by(record_part.c.kind, record_part.c.id, record_part.c.position)
        )
        found = []
        with self.database.reading() as connection:
            for row in connection.execute(statement).all():
                raw = self.keys.open(connection, row.body, kind=row.kind, id=f"{row.id}#{row.position}")
                found.append(PlainMember(row.kind, row.id, row.position, msgspec.json.decode(raw)))
        return found

    def rewrite(self, kind: str, id: str, body: object) -> None:
        """Puts another body into a record; everything else about it stays."""
        where = (record.c.project == self.project, record.c.kind == kind, record.c.id == id)
        with self.database.transaction() as connection:
            subject = connection.execute(select(record.c.subject).where(*where)).scalar()
            sealed = self.keys.seal(connection, msgspec.json.encode(body), subject=subject, kind=kind, id=id)
            connection.execute(update(record).where(*where).values(body=sealed))
            count_writes(self.database, connection, self.project, [kind])

    def remove(self, subject: str) -> None:
        """Removes every record and member about a person; asking for one raises `ContentErased` from now on."""
        mine = (record.c.project == self.project, record.c.subject == subject)
        with self.database.transaction() as connection:
            gone = connection.execute(select(record.c.kind, record.c.id).where(*mine)).all()
            for kind, id in gone:
                for table in (record_part, record_link):
                    connection.execute(
                        delete(table).where(table.c.project == self.project, table.c.kind == kind, table.c.id == id)
                    )
            connection.execute(delete(record).where(*mine))
            count_writes(self.database, connection, self.project, {kind for kind, _ in gone})
            connection.execute(
                delete(record_part).where(record_part.c.project == self.project, record_part.c.subject == subject)
            )
            if gone:
                now = time.time_ns() // 1000
                connection.execute(
                    self.database.insert(erased).on_conflict_do_nothing(),
                    [{"project": self.project, "kind": kind, "id": id, "erased_us": now} for kind, id in gone],
                )
