"""SQLite in one file beside the application: write-ahead log, secure delete, full-text index without content."""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from slipway.domain.errors import StoreError, StoreUnavailable
from slipway.store.databases.base import databases

BUSY_TIMEOUT_MS = 15_000


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

    def create_word_index(self, connection: Connection) -> None:
        # detail=none keeps no positions: the words of a page come sorted and unique anyway. The ascii tokenizer takes
        # every other letter as part of a word, so that it cuts exactly where `words.py` did.
        connection.exec_driver_sql(
            "create virtual table if not exists trace_words using fts5(words, content='', detail=none, "
            "tokenize='ascii')"
        )

    def index_words(self, connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
        if rows:
            connection.exec_driver_sql("insert into trace_words(rowid, words) values (?, ?)", list(rows))

    def forget_words(self, connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
        if rows:
            connection.exec_driver_sql(
                "insert into trace_words(trace_words, rowid, words) values ('delete', ?, ?)", list(rows)
            )

    def forget_all_words(self, connection: Connection, project: str) -> bool:
        connection.exec_driver_sql("insert into trace_words(trace_words) values ('delete-all')")
        return True

    def pages_with(self, words: Sequence[str]) -> tuple[str, dict[str, Any]]:
        terms = [f'"{word[:-1]}"*' if word.endswith("*") else f'"{word}"' for word in words]
        return "select rowid as id from trace_words where trace_words match :words", {"words": " AND ".join(terms)}

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
        # secure_delete writes zeros over what rows leave behind. What is left are words of the index, which are only
        # rewritten when its segments are merged, and old pages in the log.
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("insert into trace_words(trace_words) values ('optimize')")
            for _ in range(50):
                busy = raw.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
                if not busy:
                    return ""
                time.sleep(0.1)
        return "another process reads the database; its log is emptied when that process is done"

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


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later can fail with "locked" at once; an immediate one waits.
    writes = connection.get_execution_options().get("slipway_writes")
    connection.exec_driver_sql("begin immediate" if writes else "begin")
