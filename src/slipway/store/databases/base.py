"""What a database promises to the store, and the registry of databases."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Column, ColumnElement, Connection, CursorResult, Engine, Table
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoneFree

from slipway.domain.errors import StoreError, StoreUnavailable
from slipway.plugins import Registry

Constant = str | int | None
"""What can stand in a statement itself."""


class Dialect(Protocol):
    """One kind of database: how it is opened, locked, cleaned, and how it finds words.

    An implementation is a frozen dataclass whose only field is the address. `Database` is what rooms work with.
    """

    @property
    def url(self) -> str: ...

    @property
    def shown(self) -> str:
        """The address as messages may show it: without a password."""
        ...

    def engine(self) -> Engine:
        """A pool of connections whose transactions begin as this database needs. Raises `StoreUnavailable`."""
        ...

    def reading(self) -> dict[str, Any]:
        """Execution options under which several selects see one state."""
        ...

    def lock_schema(self, connection: Connection) -> None:
        """Holds other processes off until the transaction ends."""
        ...

    def lock_project(self, connection: Connection, project: str) -> None:
        """Lets one process at a time write the traces of a project, until the transaction ends."""
        ...

    def next_ids(self, connection: Connection, table: str, count: int) -> Sequence[int]:
        """Ids for `count` new rows of a table with a numbered key, so that they can be written in one go."""
        ...

    def insert_rows(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        same: Mapping[str, Constant],
    ) -> None:
        """Writes many rows the fastest way there is; `same` are further columns, with their value in all of them.

        Raises the driver's own errors.
        """
        ...

    def update_rows(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Changes many rows, each given by the new values of the columns and at last its `id`.

        Raises the driver's own errors, or those of SQLAlchemy.
        """
        ...

    def one_of(self, column: Column[Any], numbers: Sequence[int]) -> ColumnElement[bool]:
        """The condition that a column holds one of many numbers, given as one parameter: there may be a million."""
        ...

    def insert(self, table: Table) -> Any:
        """An insert statement that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        ...

    def skip_locked(self) -> bool:
        """Whether rows can be claimed past rows that others hold."""
        ...

    def settle(self) -> None:
        """Returns when everything that was committed outlives a power cut. Raises `OSError`."""
        ...

    def scrub(self, engine: Engine) -> str:
        """Makes sure that deleted content is in no file any more; returns what is left to others, or nothing."""
        ...

    def tidy(self, engine: Engine) -> None:
        """What is good to do while nobody writes; never needed, never waited for."""
        ...

    def explain(self, error: DBAPIError) -> StoreError | None:
        """The error to raise instead, when it is about locks, disks or connections."""
        ...


NOTHING_SAME: Mapping[str, Constant] = {}
databases: Registry[Dialect] = Registry("database", package="slipway.store.databases")


class _Open(NamedTuple):
    """The transaction of a thread, and the task that began it."""

    connection: Connection
    task: object


def _task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class Database:
    """Transactions over one engine. Every thread has at most one transaction at a time; nested ones are savepoints.

    A transaction must not span an `await`: another task of the same thread would write into it.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.engine = dialect.engine()
        self._reading = dialect.reading()
        self._local = threading.local()
        self._rolled_back: list[Callable[[], None]] = []
        self.writes = 0
        """Transactions that this process has committed: what was read before the last of them may be old."""

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Writes all or nothing. Raises `StoreUnavailable` when the database is locked too long or its disk is full."""
        open_here: _Open | None = getattr(self._local, "open", None)
        if open_here is not None and open_here.task is not _task():
            raise RuntimeError("a transaction of another task is open in this thread: it must not span an await")
        try:
            if open_here is not None:
                savepoint = open_here.connection.begin_nested()
                try:
                    yield open_here.connection
                except BaseException:
                    # A full disk makes SQLite give up the whole transaction: then there is no savepoint to go back to,
                    # and the first error is the one to tell.
                    with suppress(DBAPIError):
                        savepoint.rollback()
                    raise
                savepoint.commit()
                return
            with self.engine.connect() as connection:
                connection = connection.execution_options(slipway_writes=True)
                with connection.begin():
                    self._local.open = _Open(connection, _task())
                    try:
                        yield connection
                    finally:
                        self._local.open = None
            self.writes += 1
        except BaseException as error:
            for forget in self._rolled_back:
                forget()
            if isinstance(error, DBAPIError | NoneFree):
                raise self._explained(error) from error
            raise

    @contextmanager
    def joining(self) -> Iterator[Connection]:
        """The transaction that this task has open, without a savepoint, or one of its own.

        For steps of a whole that is given up altogether when one of them fails.
        """
        open_here: _Open | None = getattr(self._local, "open", None)
        if open_here is not None and open_here.task is _task():
            yield open_here.connection
            return
        with self.transaction() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot; inside a transaction of the same task, that transaction."""
        open_here: _Open | None = getattr(self._local, "open", None)
        if open_here is not None and open_here.task is _task():
            yield open_here.connection
            return
        try:
            with self.engine.connect().execution_options(**self._reading) as connection:
                yield connection
        except (DBAPIError, NoneFree) as error:
            raise self._explained(error) from error

    def insert_rows(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        same: Mapping[str, Constant] = NOTHING_SAME,
    ) -> None:
        """Rows as tuples in the order of the columns: to prepare parameters one by one costs more than the insert.

        `same` are further columns whose value is the same in all rows; they stand in the statement itself.
        """
        if not rows:
            return
        errors = self.engine.dialect.loaded_dbapi.Error
        try:
            self.dialect.insert_rows(connection, table.name, columns, rows, same)
        except errors as wrong:
            raise DBAPIError.instance(f"insert into {table.name}", None, wrong, errors) from wrong

    def update_rows(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Changes rows, each given by the new values of the columns and at last its `id`; no two have the same."""
        if rows:
            self.dialect.update_rows(connection, table, columns, rows)

    def insert_columns(
        self, connection: Connection, table: Table, columns: Mapping[str, Sequence[Any] | Constant]
    ) -> None:
        """The same by column: either its values, all of them as many, or the one that every row has."""
        same = {name: value for name, value in columns.items() if value is None or isinstance(value, str | int)}
        values = {name: value for name, value in columns.items() if name not in same}
        self.insert_rows(connection, table, tuple(values), list(zip(*values.values(), strict=True)), same=same)

    def raw(self, connection: Connection, sql: str, parameters: Sequence[Any] = ()) -> CursorResult[Any]:
        """Runs SQL as it is written, with `?` for parameters: for what runs so often that building it would cost more.

        The SQL holds no other question mark and no per cent sign.
        """
        return connection.exec_driver_sql(_marked(connection, sql), tuple(parameters))

    def raw_many(self, connection: Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """The same for many rows of parameters."""
        if rows:
            connection.exec_driver_sql(_marked(connection, sql), list(rows))

    def when_rolled_back(self, forget: Callable[[], None]) -> None:
        """`forget` is called after any roll-back, so that what was kept in memory does not outlive its row."""
        self._rolled_back.append(forget)

    @property
    def in_transaction(self) -> bool:
        return getattr(self._local, "open", None) is not None

    def insert(self, table: Table) -> Any:
        """An insert statement with `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return self.dialect.insert(table)

    def upsert(self, table: Table, keys: Sequence[str], *, keep: Sequence[str] = ()) -> Any:
        """Insert, or update every column but the keys and those in `keep`."""
        statement = self.dialect.insert(table)
        changed = {
            column.name: statement.excluded[column.name]
            for column in table.columns
            if column.name not in keys and column.name not in keep
        }
        if not changed:
            return statement.on_conflict_do_nothing(index_elements=list(keys))
        return statement.on_conflict_do_update(index_elements=list(keys), set_=changed)

    def close(self) -> None:
        self.engine.dispose()

    def failure(self, error: Exception) -> StoreError | None:
        """What to raise for an error that is about the database and not about the rows that were to be written: others
        would not fare better, and these may another time."""
        if not isinstance(error, DBAPIError):
            return None
        # What is too long for an index is told as a disk that fails is.
        too_long = str(getattr(error.orig, "sqlstate", None) or "").startswith("54")
        if too_long or isinstance(error, DataError | IntegrityError):
            return None
        reason = str(error.orig).strip().split("\n")[0]
        return StoreUnavailable(self.dialect.shown, reason, next_step="The log of the database says more.")

    def _explained(self, error: DBAPIError | NoneFree) -> Exception:
        if isinstance(error, NoneFree):
            why = "all connections of this process are in use"
            return StoreUnavailable(self.dialect.shown, why, next_step="Look what they wait for in the server's log.")
        explained = self.dialect.explain(error)
        if explained is not None:
            return explained
        return error


def _marked(connection: Connection, sql: str) -> str:
    """SQL with the marks for parameters that the driver knows."""
    return sql if connection.dialect.paramstyle == "qmark" else sql.replace("?", "%s")
