"""SQLite in one file beside the application: write-ahead log, secure delete."""

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from slipway.domain.errors import StoreError, StoreUnavailable
from slipway.store.databases.base import Constant, databases

BUSY_TIMEOUT_MS = 15_000
ROWS_AT_ONCE = 64
"""Of one statement."""


@databases.register("sqlite")
@dataclass(frozen=True)
class Sqlite:
    """SQLite in one file; needs nothing but Python."""

    url: str

    @property
    def path(self) -> Path | None:
        """The file, or None when the database lives in memory."""
        name = make_url(self.url).database
        return None if not name or name == ":memory:" else Path(name)

    @property
    def shown(self) -> str:
        return str(self.path or self.url)

    def reading(self) -> dict[str, Any]:
        # A deferred transaction sees the state of its first select until it ends.
        return {}

    def engine(self) -> Engine:
        path = self.path
        if path is None:
            raise StoreUnavailable(
                self.shown, "it would live in memory only", next_step="Name a file: sqlite:///.slipway/store.db"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made here and not by SQLite, so that nobody else can read it even for a moment.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as wrong:
            raise StoreUnavailable(
                self.shown, f"'{path}' cannot be written ({wrong.strerror})", next_step="Check the folder and the disk."
            ) from wrong
        engine = create_engine(
            make_url(self.url),
            connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False, "cached_statements": 256},
            pool_size=8,
            max_overflow=32,
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    def lock_schema(self, connection: Connection) -> None:
        """Nothing to do: a writing transaction holds the only write lock from its first statement."""

    def lock_project(self, connection: Connection, project: str) -> None:
        """Nothing to do, as for the schema."""

    def next_ids(self, connection: Connection, table: str, count: int) -> Sequence[int]:
        # Nobody else can write between this and the insert: the transaction holds the only write lock.
        last = connection.exec_driver_sql(f"select coalesce(max(id), 0) from {table}").scalar_one()
        return range(last + 1, last + 1 + count)

    def insert_rows(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        same: Mapping[str, Constant],
    ) -> None:
        named = ", ".join(f'"{column}"' for column in (*columns, *same))
        values = ", ".join(("?",) * len(columns) + tuple(map(_literal, same.values())))
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        insert = f"insert into {table} ({named}) values "
        # To begin a statement costs as much as to write two rows: most are written by one that takes many.
        many = min(ROWS_AT_ONCE, raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(columns))
        whole = len(rows) - len(rows) % many
        if whole:
            some = (list(chain.from_iterable(rows[at : at + many])) for at in range(0, whole, many))
            raw.executemany(insert + ", ".join([f"({values})"] * many), some)
        raw.executemany(f"{insert}({values})", rows[whole:])

    def update_rows(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        changed = ", ".join(f'"{name}" = ?' for name in columns)
        connection.exec_driver_sql(f"update {table.name} set {changed} where id = ?", [tuple(row) for row in rows])

    def one_of(self, column: Column[Any], numbers: Sequence[int]) -> ColumnElement[bool]:
        listed = f"[{','.join(map(str, numbers))}]"
        return column.in_(select(func.json_each(listed).table_valued("value").c.value))

    def insert(self, table: Table) -> Any:
        return insert(table)

    def skip_locked(self) -> bool:
        return False

    def settle(self) -> None:
        # With `synchronous = normal` a commit is written to the log, but not synced. Checkpoints sync by themselves.
        if self.path is not None:
            with suppress(FileNotFoundError):
                handle = os.open(f"{self.path}-wal", os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def scrub(self, engine: Engine) -> str:
        # secure_delete writes zeros over what rows leave behind; what is left are old pages in the log.
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            for _ in range(50):
                busy = raw.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
                if not busy:
                    return ""
                time.sleep(0.1)
        return "another process reads the database; its log is emptied when that process is done"

    def tidy(self, engine: Engine) -> None:
        # The log gives its space back; where somebody reads, it does so another time.
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("pragma busy_timeout = 0")
            with suppress(sqlite3.OperationalError):
                raw.execute("pragma wal_checkpoint(truncate)").fetchone()
            raw.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_MS}")

    def explain(self, error: DBAPIError) -> StoreError | None:
        reason = str(error.orig)
        if "locked" in reason or "busy" in reason:
            return StoreUnavailable(
                self.shown,
                f"another process has held it for more than {BUSY_TIMEOUT_MS // 1000} s",
                next_step="Wait for that process or stop it, then run the command again.",
            )
        if "disk is full" in reason or "disk I/O error" in reason:
            return StoreUnavailable(
                self.shown, reason, next_step="Free some space; nothing was half-written. Then run the command again."
            )
        if "not a database" in reason or "malformed" in reason:
            return StoreUnavailable(
                self.shown, "the file is damaged or no SQLite database", next_step="Restore it from a backup."
            )
        if "readonly" in reason or "unable to open" in reason:
            return StoreUnavailable(self.shown, reason, next_step="Check who may write to the file and its folder.")
        return None


def _prepare(raw: sqlite3.Connection, _: object) -> None:
    # Transactions begin where we say, not where the driver guesses.
    raw.isolation_level = None
    raw.execute(f"pragma busy_timeout = {BUSY_TIMEOUT_MS}")
    raw.execute("pragma journal_mode = wal")
    raw.execute("pragma synchronous = normal")
    raw.execute("pragma foreign_keys = on")
    raw.execute("pragma secure_delete = on")
    raw.execute("pragma temp_store = memory")
    # 16 MB of log before it is written back, and 8 MB of pages at hand: what many batches change is written once.
    raw.execute("pragma wal_autocheckpoint = 4000")
    raw.execute("pragma cache_size = -8000")
    raw.create_function("slipway_unhex", 1, _unhex, deterministic=True)


def _literal(value: Constant) -> str:
    if value is None:
        return "null"
    return str(int(value)) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _unhex(text: str | None) -> bytes | None:
    """SQLite has its own from 3.41 on only."""
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        return None


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later can fail with "locked" at once; an immediate one waits.
    writes = connection.get_execution_options().get("slipway_writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")
