"""How often records of a kind were written: tells whoever keeps them in memory that there is something new."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from slipway.store.databases.base import Database
from slipway.store.schema import setting
from slipway.store.store_counters import count_up

WATCHED = frozenset({"channel", "api_key", "release"})
"""Kinds that gateways keep in memory. Other kinds are not counted: all that write a kind wait for each other here."""


def count_writes(database: Database, connection: Connection, project: str, kinds: Collection[str]) -> None:
    """Counts one write of each kind that is watched, in the transaction that writes."""
    for kind in sorted(WATCHED.intersection(kinds)):
        count_up(database, connection, _counter(project, kind))


def writes_of(connection: Connection, project: str, kinds: Sequence[str]) -> tuple[int, ...]:
    """The writes of each kind since the project began. Raises `ValueError` for a kind that is not watched."""
    unwatched = [kind for kind in kinds if kind not in WATCHED]
    if unwatched:
        raise ValueError(f"writes of '{unwatched[0]}' are not counted: add it to WATCHED in store/record_writes.py")
    names = [_counter(project, kind) for kind in kinds]
    found = {row.name: row.value for row in connection.execute(select(setting).where(setting.c.name.in_(names)))}
    return tuple(int(found.get(name, 0)) for name in names)


def _counter(project: str, kind: str) -> str:
    return f"writes of {kind} in {project}"
