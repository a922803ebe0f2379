"""Opens a database: makes its tables when it is empty, migrates it when it is older, refuses it when it is newer."""

from sqlalchemy import Connection, inspect, select

from slipway.domain.errors import StoreTooNew
from slipway.store.databases.base import Database, databases
from slipway.store.encryption import EPOCH
from slipway.store.schema import HEAD, metadata, setting, version


def open_database(url: str) -> Database:
    """A database whose schema is this version's. Raises `StoreUnavailable`, `StoreTooNew`, `UnknownBackend`."""
    kind = url.split(":", 1)[0].split("+", 1)[0]
    dialect = databases.make("postgres" if kind in ("postgresql", "postgres") else kind, {"url": url})
    database = Database(dialect)
    try:
        with database.reading() as connection:
            found = _version(connection)
        if found != HEAD:
            _bring_up(database)
    except BaseException:
        database.close()
        raise
    return database


def _version(connection: Connection) -> str | None:
    """The migration that a database stands at; None when it is empty."""
    if not inspect(connection).has_table(version.name):
        return None
    return connection.execute(select(version.c.version_num)).scalar()


def _bring_up(database: Database) -> None:
    with database.transaction() as connection:
        database.dialect.lock_schema(connection)
        # Asked again under the lock: another process may have been quicker.
        found = _version(connection)
        if found == HEAD:
            return
        if found is None:
            # A fresh database skips the migrations; a test holds the two ways to the same schema.
            metadata.create_all(connection)
            connection.execute(setting.insert().values(name=EPOCH, value=0))
            connection.execute(version.insert().values(version_num=HEAD))
            return
        from slipway.store.migrations.run import known_versions, migrate

        if found not in known_versions():
            raise StoreTooNew(database.dialect.shown, found)
        migrate(connection)
