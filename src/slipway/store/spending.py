"""What each holder of a key has used in a month."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Row, or_, select

from slipway.domain.access import Spending
from slipway.store.databases.base import Database
from slipway.store.schema import spending
from slipway.store.store_counters import count_up

KEY = ["project", "holder", "period"]
BATCHES = "batches"
"""The period of rows that hold the last batch of a worker: its token as `micros`, its number as `requests`."""


class Batch(Protocol):
    """What one writer adds at once: `number` grows from batch to batch, `token` is another one for each writer that
    takes the same `name`."""

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> int: ...

    @property
    def number(self) -> int: ...


class Used(NamedTuple):
    """Sums by holder, and the number of the newest addition that is in them."""

    holders: dict[str, Spending]
    to: int


class SpendingBook:
    """The sums of one project; every process adds to them."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def add(self, used: Iterable[Spending], batch: Batch | None = None) -> None:
        """Adds what was used to what is there. A `batch` that is there already is not added again."""
        rows = [self._row(one) for one in used]
        with self.database.transaction() as connection:
            if batch is not None and not self._is_new(connection, batch):
                return
            if not rows:
                return
            # Greater than all before, and none that is lower becomes visible later.
            number = count_up(self.database, connection, f"spending of {self.project}")
            statement = self.database.insert(spending)
            sums = {name: spending.c[name] + statement.excluded[name] for name in ("requests", "tokens", "micros")}
            replaced = sums | {"written": number}
            for row in rows:
                row["written"] = number
            connection.execute(statement.on_conflict_do_update(index_elements=KEY, set_=replaced), rows)

    def _is_new(self, connection: Connection, batch: Batch) -> bool:
        """Notes a batch as the last one of its name; whether it was not that already."""
        last = Spending(holder=batch.name, period=BATCHES, requests=batch.number, micros=batch.token)
        statement = self.database.insert(spending).values(self._row(last))
        replaced = {"requests": batch.number, "micros": batch.token}
        newer = or_(spending.c.micros != batch.token, spending.c.requests < batch.number)
        noted = statement.on_conflict_do_update(index_elements=KEY, set_=replaced, where=newer)
        # Not by the number of rows: the driver of Postgres does not tell it of an insert.
        return connection.execute(noted.returning(spending.c.holder)).first() is not None

    def _row(self, one: Spending) -> dict[str, Any]:
        return {
            "project": self.project,
            "holder": one.holder,
            "period": one.period,
            "requests": one.requests,
            "tokens": one.tokens,
            "micros": one.micros,
            "written": 0,
        }

    def since(self, period: str, number: int | None) -> Used:
        """What those holders used in a period to whom something was added after an earlier call, which returned
        `number` as `to`; None stands for all holders."""
        statement = select(spending).where(spending.c.project == self.project, spending.c.period == period)
        if number is not None:
            statement = statement.where(spending.c.written > number)
        holders, to = {}, number or 0
        with self.database.reading() as connection:
            for row in connection.execute(statement):
                holders[row.holder] = _spending(row)
                to = max(to, row.written)
        return Used(holders, to)

    def of(self, period: str) -> dict[str, Spending]:
        """What every holder used in a period, by holder."""
        return self.since(period, None).holders


def _spending(row: Row[Any]) -> Spending:
    return Spending(holder=row.holder, period=row.period, requests=row.requests, tokens=row.tokens, micros=row.micros)
