"""What each holder of a key has used in a month."""

from collections.abc import Iterable

from sqlalchemy import select

from slipway.domain.access import Spending
from slipway.store.databases.base import Database
from slipway.store.schema import spending


class SpendingBook:
    """The sums of one project; every process adds to them."""

    def __init__(self, database: Database, project: str) -> None:
        self.database, self.project = database, project

    def add(self, used: Iterable[Spending]) -> None:
        """Adds what was used to what is there."""
        rows = [
            {
                "project": self.project,
                "holder": one.holder,
                "period": one.period,
                "requests": one.requests,
                "tokens": one.tokens,
                "micros": one.micros,
            }
            for one in used
        ]
        if not rows:
            return
        statement = self.database.insert(spending)
        sums = {name: spending.c[name] + statement.excluded[name] for name in ("requests", "tokens", "micros")}
        with self.database.transaction() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["project", "holder", "period"], set_=sums), rows
            )

    def of(self, period: str) -> dict[str, Spending]:
        """What every holder used in a period, by holder."""
        statement = select(spending).where(spending.c.project == self.project, spending.c.period == period)
        with self.database.reading() as connection:
            return {
                row.holder: Spending(
                    holder=row.holder, period=period, requests=row.requests, tokens=row.tokens, micros=row.micros
                )
                for row in connection.execute(statement)
            }
