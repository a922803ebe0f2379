"""Rows of the audit log; what chains them lies in `access/audit.py`."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec
from sqlalchemy import select

from slipway.domain.access import AuditEvent
from slipway.store.databases.base import Database
from slipway.store.schema import audit


class AuditLog:
    """The log of one project: lines are added, never changed."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def append(self, make: Callable[[AuditEvent | None], AuditEvent]) -> AuditEvent:
        """Adds the line that `make` builds from the last one; no other line comes between them."""
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            event = make(self.last())
            connection.execute(
                audit.insert().values(
                    project=self.project,
                    number=event.number,
                    at_us=round(event.at.timestamp() * 1_000_000),
                    actor=event.actor,
                    action=event.action,
                    thing=event.thing,
                    detail=msgspec.json.encode(event.detail, order="sorted").decode(),
                    hash=event.hash,
                )
            )
        return event

    def last(self) -> AuditEvent | None:
        return next(self.events(newest_first=True, limit=1), None)

    def events(self, *, newest_first: bool = False, limit: int | None = None) -> Iterator[AuditEvent]:
        """Lines in order of their number."""
        order = audit.c.number.desc() if newest_first else audit.c.number
        statement = select(audit).where(audit.c.project == self.project).order_by(order)
        if limit is not None:
            statement = statement.limit(limit)
        with self.database.reading() as connection:
            rows = connection.execute(statement).all()
        for row in rows:
            yield AuditEvent(
                number=row.number,
                at=datetime.fromtimestamp(row.at_us / 1_000_000, UTC),
                actor=row.actor,
                action=row.action,
                thing=row.thing,
                detail=msgspec.json.decode(row.detail),
                hash=row.hash,
            )
