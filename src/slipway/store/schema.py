"""The tables of the store, the same on every database; `migrations/` holds how they came to be."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

HEAD = "0008"
"""Newest migration; a test compares it with the folder `migrations/versions`."""

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)
Number = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on every database; on SQLite only the type INTEGER counts itself up."""
KNOWN = "subject is not null"
IN_SESSION = "session <> ''"
NOT_OK = "status <> 'ok'"
"""Which rows stand in an index: a query has to say so (see `trace_query.USUAL`)."""


def _of_a_trace() -> ForeignKeyConstraint:
    """Postgres would lock and log the line of the trace for every row. Who removes traces removes their rows first."""
    return ForeignKeyConstraint(["trace_id"], ["trace.id"], ondelete="CASCADE").ddl_if(dialect="sqlite")


version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

setting = Table(
    "store_setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Number, nullable=False),
    comment="Counters of the whole store, such as the epoch of data keys.",
)

project = Table(
    "project",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_us", Number, nullable=False),
    Column("master_check", LargeBinary, nullable=False),
    comment="One row a project; the check tells whether a master key is the right one.",
)

data_key = Table(
    "data_key",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("subject", Text),
    Column("wrapped", LargeBinary),
    Column("created_us", Number, nullable=False),
    Column("erased_us", Number),
    UniqueConstraint("project", "subject"),
    comment="Keys per (project, person), wrapped by the master key; an erased key keeps its row, empty.",
)

record = Table(
    "record",
    metadata,
    Column("project", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("subject", Text),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_us", Number, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "project", "kind", "name", "version"),
    Index(None, "project", "kind", "created_us"),
    Index(None, "project", "subject"),
)

record_part = Table(
    "record_part",
    metadata,
    Column("project", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "project", "subject"),
    comment="Members of a record that are about a person of their own, such as the cases of a dataset.",
)

record_link = Table(
    "record_link",
    metadata,
    Column("project", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "project", "kind", "field", "value"),
    comment="Fields of records that can be asked for, although the bodies are sealed.",
)

derived = Table(
    "derived",
    metadata,
    Column("project", Text, primary_key=True),
    Column("child_kind", Text, primary_key=True),
    Column("child_id", Text, primary_key=True),
    Column("parent_kind", Text, primary_key=True),
    Column("parent_id", Text, primary_key=True),
    Column("transform", Text, nullable=False),
    Column("created_us", Number, nullable=False),
    Index(None, "project", "parent_kind", "parent_id"),
    comment="What was made from what: written wherever content is copied.",
)

erased = Table(
    "erased",
    metadata,
    Column("project", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("erased_us", Number, nullable=False),
    comment="Things that were erased, by id only, so that asking for one is answered with the reason.",
)

trace = Table(
    "trace",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("trace", LargeBinary, nullable=False),
    Column("root", LargeBinary),
    Column("started_ns", Number, nullable=False),
    Column("ended_ns", Number, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("subject", Text),
    Column("spans", Integer, nullable=False),
    Column("model_spans", Integer, nullable=False),
    Column("input_tokens", Number, nullable=False),
    Column("output_tokens", Number, nullable=False),
    Column("cost_micros", Number, nullable=False),
    Column("verdicts", Text, nullable=False),
    Column("preview", LargeBinary),
    Column("page", Number),
    UniqueConstraint("project", "trace"),
    Index(None, "project", "started_ns"),
    Index(None, "project", "release", "started_ns"),
    Index(None, "project", "model", "started_ns"),
    # Most traces went well, belong to no conversation and are about nobody: they need no line here.
    Index(None, "project", "status", "started_ns", sqlite_where=text(NOT_OK), postgresql_where=text(NOT_OK)),
    Index(None, "project", "session", "started_ns", sqlite_where=text(IN_SESSION), postgresql_where=text(IN_SESSION)),
    Index(None, "project", "subject", "started_ns", sqlite_where=text(KNOWN), postgresql_where=text(KNOWN)),
    comment="One line a trace: what lists and filters read.",
)

span = Table(
    "span",
    metadata,
    Column("trace_id", Number, primary_key=True),
    Column("span", LargeBinary, primary_key=True),
    Column("parent", LargeBinary),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("start_ns", Number, nullable=False),
    Column("duration_ns", Number, nullable=False),
    Column("status", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("response_model", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("knowledge", Text, nullable=False),
    Column("input_tokens", Number, nullable=False),
    Column("output_tokens", Number, nullable=False),
    Column("cached_tokens", Number, nullable=False),
    Column("reasoning_tokens", Number, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("cost_micros", Number, nullable=False),
    Column("first_token_ns", Number),
    Column("finish", Text, nullable=False),
    Column("verdicts", Text, nullable=False),
    _of_a_trace(),
    sqlite_with_rowid=False,
    comment="Steps of traces, narrow and typed; what may be about a person lies in trace_page.",
)

trace_page = Table(
    "trace_page",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("trace_id", Number, nullable=False),
    Column("project", Text, nullable=False),
    Column("subject", Text),
    Column("body", LargeBinary, nullable=False),
    Index(None, "trace_id"),
    _of_a_trace(),
    comment="Content of one trace that is large or came late: zstd, sealed per person.",
)

shared_page = Table(
    "shared_page",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("subject", Text),
    Column("members", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    comment="Content of traces about one person, or about nobody, that came together: zstd, sealed per person.",
)

word_members = Table(
    "word_members",
    metadata,
    Column("project", Text, primary_key=True),
    Column("block", Number, primary_key=True, autoincrement=False),
    Column("loose", Boolean, nullable=False),
    Column("lowest", Number, nullable=False),
    Column("highest", Number, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
    comment="Which traces a block of the word index is about, by their slots.",
)

word_block = Table(
    "word_block",
    metadata,
    Column("project", Text, primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
    Column("block", Number, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
    comment="Words of a block by first letter, as hashes with the slots of the traces that hold them.",
)

waiting_event = Table(
    "waiting_event",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("trace", LargeBinary, nullable=False),
    Column("span", LargeBinary, nullable=False),
    Column("arrived_us", Number, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "project", "trace"),
    comment="Log records that came before their span, sealed; they are joined to it, or dropped after a day.",
)

rollup = Table(
    "rollup",
    metadata,
    Column("project", Text, primary_key=True),
    Column("minute", Number, primary_key=True),
    Column("root", Boolean, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("release", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("count", Number, nullable=False),
    Column("errors", Number, nullable=False),
    Column("abstained", Number, nullable=False),
    Column("blocked", Number, nullable=False),
    Column("input_tokens", Number, nullable=False),
    Column("output_tokens", Number, nullable=False),
    Column("cached_tokens", Number, nullable=False),
    Column("cost_micros", Number, nullable=False),
    Column("latency", LargeBinary, nullable=False),
    Column("first_token", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
    comment="Numbers per minute that pages, alerts and economics read; they outlive the traces.",
)

journal_position = Table(
    "journal_position",
    metadata,
    Column("project", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("position", Number, nullable=False),
    Column("damaged", Number, nullable=False),
    comment="How far each journal segment was read, written in the transaction that stores what was read.",
)

spending = Table(
    "spending",
    metadata,
    Column("project", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("requests", Number, nullable=False),
    Column("tokens", Number, nullable=False),
    Column("micros", Number, nullable=False),
    Column("written", Number, nullable=False, server_default="0"),
    Index(None, "project", "period", "written"),
    comment="What a key has used in a month; `written` grows from addition to addition.",
)

audit = Table(
    "audit",
    metadata,
    Column("project", Text, primary_key=True),
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("at_us", Number, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("thing", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", Text, nullable=False),
    comment="Who did what, each line chained to the one before it by hash.",
)

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("run_at_us", Number, nullable=False),
    Column("lease_us", Number, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("done", Number, nullable=False),
    Column("total", Number, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_us", Number, nullable=False),
    Column("finished_us", Number),
    Column("subject", Text),
    Column("body", LargeBinary, nullable=False),
    Column("progress", LargeBinary),
    Column("result", LargeBinary),
    UniqueConstraint("project", "kind", "key"),
    Index(None, "project", "state", "run_at_us"),
)


def _keep_as_it_is(table: Any, connection: Connection, **_: object) -> None:
    # What is sealed or pressed already gets no smaller, and Postgres would try for each row.
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"alter table {table.name} alter column body set storage external")


for _table in (shared_page, trace_page, word_members, word_block):
    event.listen(_table, "after_create", _keep_as_it_is)
