"""Postgres for a server that several machines share: the same tables, written by COPY where it is hot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    any_,
    cast,
    create_engine,
    event,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from slipway.domain.errors import StoreError, StoreUnavailable
from slipway.plugins import missing_package
from slipway.store.databases.base import Constant, databases

LOCK_TIMEOUT = "15s"
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
}
"""Seconds, and milliseconds for the last: a machine that is gone without a word is noticed within a minute, not two
hours. What the address says counts more."""
SCHEMA_LOCK = 0x51177A7
ROWS_AT_ONCE = 1000
"""Lines that are joined before they are sent."""


@databases.register("postgres")
@dataclass(frozen=True)
class Postgres:
    """Postgres through psycopg; several machines can share it."""

    url: str

    @property
    def shown(self) -> str:
        return make_url(self.url).render_as_string(hide_password=True)

    def engine(self) -> Engine:
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        own = url.query.get("options", "")
        options = f"{own if isinstance(own, str) else ' '.join(own)} -c lock_timeout={LOCK_TIMEOUT}".strip()
        patience = {name: value for name, value in PATIENCE.items() if name not in url.query}
        try:
            engine = create_engine(
                url,
                pool_size=8,
                max_overflow=32,
                pool_pre_ping=True,
                connect_args={"options": options, **patience},
            )
        except ModuleNotFoundError as missing:
            raise missing_package("The Postgres store", missing) from missing
        event.listen(engine, "connect", _prepare)
        return engine

    def reading(self) -> dict[str, Any]:
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))

    def lock_project(self, connection: Connection, project: str) -> None:
        connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"slipway {project}",))

    def next_ids(self, connection: Connection, table: str, count: int) -> Sequence[int]:
        # Nearly always they follow one another: then two numbers tell all, and no row travels for each.
        low, high, others = connection.exec_driver_sql(
            "select min(id), max(id), case when max(id) - min(id) >= count(*) then array_agg(id order by id) end from "
            "(select nextval((select pg_get_serial_sequence(%s, 'id')::regclass)) as id from generate_series(1, %s)) n",
            (table, count),
        ).one()
        return range(low, high + 1) if others is None else list(others)

    def insert_rows(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        same: Mapping[str, Constant],
    ) -> None:
        named = ", ".join(f'"{column}"' for column in (*columns, *same))
        fields, values = zip(*map(_as_text, zip(*rows, strict=True)), strict=True)
        constants = [_field(value).replace("%", "%%") for value in same.values()]
        line = "\t".join([*fields, *constants]) + "\n"
        lines = map(line.__mod__, zip(*values, strict=True))
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor, cursor.copy(f"copy {table} ({named}) from stdin") as copy:
            while some := "".join(islice(lines, ROWS_AT_ONCE)):
                copy.write(some)

    def update_rows(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        # One statement for all of them: by one each, the server takes twice as long, and answers as often.
        names = (*columns, "id")
        arrays = ", ".join(f"%s::{table.c[name].type.compile(connection.dialect)}[]" for name in names)
        changed = ", ".join(f'"{name}" = new."{name}"' for name in columns)
        named = ", ".join(f'"{name}"' for name in names)
        connection.exec_driver_sql(
            f"update {table.name} set {changed} from unnest({arrays}) as new({named}) where {table.name}.id = new.id",
            tuple(map(_as_array, zip(*rows, strict=True))),
        )

    def one_of(self, column: Column[Any], numbers: Sequence[int]) -> ColumnElement[bool]:
        return column == any_(cast(list(numbers), ARRAY(BigInteger)))

    def insert(self, table: Table) -> Any:
        return insert(table)

    def skip_locked(self) -> bool:
        return True

    def settle(self) -> None:
        # The server syncs its log with every commit.
        return None

    def scrub(self, engine: Engine) -> str:
        # Deleted rows stay in the files until a vacuum; only a full one gives back every byte. It is run where content
        # or keys lie readable; sealed bodies are unreadable anyway.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("word_block", "data_key", "trace", "record_link"):
                connection.exec_driver_sql(f"vacuum full {table}")
            for table in (
                "span",
                "trace_page",
                "shared_page",
                "word_members",
                "record",
                "record_part",
                "derived",
                "job",
            ):
                connection.exec_driver_sql(f"vacuum {table}")
        return "the server's write-ahead log and its backups keep old pages until they are recycled"

    def tidy(self, engine: Engine) -> None:
        """Nothing to do: the server looks after itself."""

    def explain(self, error: DBAPIError) -> StoreError | None:
        state = getattr(error.orig, "sqlstate", None) or ""
        reason = str(error.orig).strip().split("\n")[0]
        if state in ("55P03", "40P01"):
            return StoreUnavailable(
                self.shown,
                "another process holds what is needed",
                next_step="Wait for it, then run the command again.",
            )
        if state.startswith("53"):
            return StoreUnavailable(self.shown, reason, next_step="Free disk or connections of the server.")
        if state == "57014":
            return StoreUnavailable(self.shown, reason, next_step="Raise the server's statement_timeout for this user.")
        if error.connection_invalidated or state.startswith(("08", "57", "28", "3D")) or not state:
            return StoreUnavailable(self.shown, reason, next_step="Start the server, or correct [store] url.")
        if state.startswith(("25", "40", "58", "XX")) or state == "42501":
            # Read-only after a fail-over, rolled back, a disk that fails, a right that is missing.
            return StoreUnavailable(self.shown, reason, next_step="The server's log says more.")
        return None


def _prepare(raw: Any, _: object) -> None:
    # What was committed is taken out of the journal at once: a server that is set to promise nothing would lose it.
    raw.execute(
        "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'"
    )
    raw.commit()


# What COPY reads. Value by value, the driver takes three times as long as for whole columns.


def _as_text(column: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """How the values of a column stand in a line, and the values for it."""
    kinds = set(map(type, column))
    if kinds == {int}:
        return "%d", column
    if kinds == {str}:
        return "%s", column if _is_plain("".join(column)) else list(map(_field, column))
    if kinds <= {bytes, bytearray}:
        return r"\\x%s", [value.hex() for value in column]
    return "%s", list(map(_field, column))


def _as_array(column: Sequence[Any]) -> str:
    """The values of a column as one array."""
    if set(map(type, column)) == {int}:
        return f"{{{','.join(map(str, column))}}}"
    return f"{{{','.join(map(_element, column))}}}"


def _element(value: Any) -> str:
    match value:
        case None:
            return "null"
        case str():
            return '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'
        case bool() | int():
            return str(int(value))
        case _:
            return rf'"\\x{value.hex()}"'


def _field(value: Any) -> str:
    match value:
        case None:
            return r"\N"
        case str():
            return value if _is_plain(value) else value.translate(_ESCAPED)
        case bool() | int():
            return str(int(value))
        case _:
            return rf"\\x{value.hex()}"


def _is_plain(text: str) -> bool:
    return not ("\\" in text or "\n" in text or "\t" in text or "\r" in text)


_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", "\t": r"\t", "\r": r"\r"})
