"""Counters of the whole store, such as the epoch of data keys: numbers that only grow."""

from sqlalchemy import Connection

from slipway.store.databases.base import Database
from slipway.store.schema import setting


def count_up(database: Database, connection: Connection, name: str) -> int:
    """The next number of a counter, from 1 on. Whoever else counts it up waits until this transaction ends."""
    statement = (
        database.insert(setting)
        .values(name=name, value=1)
        .on_conflict_do_update(index_elements=["name"], set_={"value": setting.c.value + 1})
        .returning(setting.c.value)
    )
    return int(connection.execute(statement).scalar_one())
