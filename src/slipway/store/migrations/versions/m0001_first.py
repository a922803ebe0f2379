"""The first schema: records, traces, lineage, keys, audit log, jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("number", Number, autoincrement=False, nullable=False),
        sa.Column("at_us", Number, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("thing", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "number"),
        comment="Who did what, each line chained to the one before it by hash.",
    )
    op.create_table(
        "data_key",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("created_us", Number, nullable=False),
        sa.Column("erased_us", Number, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "subject", name=op.f("uq_data_key_project_subject")),
        comment="Keys per (project, person), wrapped by the master key; an erased key keeps its row, empty.",
    )
    op.create_table(
        "derived",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("child_kind", sa.Text(), nullable=False),
        sa.Column("child_id", sa.Text(), nullable=False),
        sa.Column("parent_kind", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.Column("transform", sa.Text(), nullable=False),
        sa.Column("created_us", Number, nullable=False),
        sa.PrimaryKeyConstraint("project", "child_kind", "child_id", "parent_kind", "parent_id"),
        comment="What was made from what: written wherever content is copied.",
    )
    op.create_index(
        op.f("ix_derived_project_parent_kind_parent_id"),
        "derived",
        ["project", "parent_kind", "parent_id"],
        unique=False,
    )
    op.create_table(
        "erased",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("erased_us", Number, nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "id"),
        comment="Things that were erased, by id only, so that asking for one is answered with the reason.",
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("run_at_us", Number, nullable=False),
        sa.Column("lease_us", Number, nullable=False),
        sa.Column("cancel", sa.Boolean(), nullable=False),
        sa.Column("done", Number, nullable=False),
        sa.Column("total", Number, nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_us", Number, nullable=False),
        sa.Column("finished_us", Number, nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("progress", sa.LargeBinary(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "kind", "key", name=op.f("uq_job_project_kind_key")),
    )
    op.create_index(op.f("ix_job_project_state_run_at_us"), "job", ["project", "state", "run_at_us"], unique=False)
    op.create_table(
        "journal_position",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("position", Number, nullable=False),
        sa.Column("damaged", Number, nullable=False),
        sa.PrimaryKeyConstraint("project", "segment"),
        comment="How far each journal segment was read, written in the transaction that stores what was read.",
    )
    op.create_table(
        "project",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_us", Number, nullable=False),
        sa.Column("master_check", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="One row a project; the check tells whether a master key is the right one.",
    )
    op.create_table(
        "record",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_us", Number, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "id"),
    )
    op.create_index(
        op.f("ix_record_project_kind_created_us"), "record", ["project", "kind", "created_us"], unique=False
    )
    op.create_index(
        op.f("ix_record_project_kind_name_version"), "record", ["project", "kind", "name", "version"], unique=False
    )
    op.create_index(op.f("ix_record_project_subject"), "record", ["project", "subject"], unique=False)
    op.create_table(
        "record_link",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "id", "field"),
        comment="Fields of records that can be asked for, although the bodies are sealed.",
    )
    op.create_index(
        op.f("ix_record_link_project_kind_field_value"),
        "record_link",
        ["project", "kind", "field", "value"],
        unique=False,
    )
    op.create_table(
        "record_part",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "id", "position"),
        comment="Members of a record that are about a person of their own, such as the cases of a dataset.",
    )
    op.create_index(op.f("ix_record_part_project_subject"), "record_part", ["project", "subject"], unique=False)
    op.create_table(
        "rollup",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("minute", Number, nullable=False),
        sa.Column("root", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("count", Number, nullable=False),
        sa.Column("errors", Number, nullable=False),
        sa.Column("abstained", Number, nullable=False),
        sa.Column("blocked", Number, nullable=False),
        sa.Column("input_tokens", Number, nullable=False),
        sa.Column("output_tokens", Number, nullable=False),
        sa.Column("cached_tokens", Number, nullable=False),
        sa.Column("cost_micros", Number, nullable=False),
        sa.Column("latency", sa.LargeBinary(), nullable=False),
        sa.Column("first_token", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "minute", "root", "kind", "release", "channel", "model"),
        comment="Numbers per minute that pages, alerts and economics read; they outlive the traces.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spending",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("requests", Number, nullable=False),
        sa.Column("tokens", Number, nullable=False),
        sa.Column("micros", Number, nullable=False),
        sa.PrimaryKeyConstraint("project", "holder", "period"),
        comment="What a key has used in a month.",
    )
    op.create_table(
        "store_setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", Number, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="Counters of the whole store, such as the epoch of data keys.",
    )
    op.create_table(
        "trace",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("trace", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=True),
        sa.Column("started_ns", Number, nullable=False),
        sa.Column("ended_ns", Number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.Column("model_spans", sa.Integer(), nullable=False),
        sa.Column("input_tokens", Number, nullable=False),
        sa.Column("output_tokens", Number, nullable=False),
        sa.Column("cost_micros", Number, nullable=False),
        sa.Column("verdicts", sa.Text(), nullable=False),
        sa.Column("preview", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "trace", name=op.f("uq_trace_project_trace")),
        comment="One line a trace: what lists and filters read.",
    )
    op.create_index(
        op.f("ix_trace_project_model_started_ns"), "trace", ["project", "model", "started_ns"], unique=False
    )
    op.create_index(
        op.f("ix_trace_project_release_started_ns"), "trace", ["project", "release", "started_ns"], unique=False
    )
    op.create_index(op.f("ix_trace_project_session"), "trace", ["project", "session"], unique=False)
    op.create_index(op.f("ix_trace_project_started_ns"), "trace", ["project", "started_ns"], unique=False)
    op.create_index(
        op.f("ix_trace_project_status_started_ns"), "trace", ["project", "status", "started_ns"], unique=False
    )
    op.create_index(op.f("ix_trace_project_subject"), "trace", ["project", "subject"], unique=False)
    op.create_table(
        "span",
        sa.Column("trace_id", Number, nullable=False),
        sa.Column("span", sa.LargeBinary(), nullable=False),
        sa.Column("parent", sa.LargeBinary(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("start_ns", Number, nullable=False),
        sa.Column("duration_ns", Number, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("response_model", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("knowledge", sa.Text(), nullable=False),
        sa.Column("input_tokens", Number, nullable=False),
        sa.Column("output_tokens", Number, nullable=False),
        sa.Column("cached_tokens", Number, nullable=False),
        sa.Column("reasoning_tokens", Number, nullable=False),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_micros", Number, nullable=False),
        sa.Column("first_token_ns", Number, nullable=True),
        sa.Column("finish", sa.Text(), nullable=False),
        sa.Column("verdicts", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trace_id"], ["trace.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_id", "span"),
        comment="Steps of traces, narrow and typed; what may be about a person lies in trace_page.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trace_page",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("trace_id", Number, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("indexed", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["trace_id"], ["trace.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        comment="Content of the spans of one trace that came together: zstd, sealed per person.",
    )
    op.create_index(op.f("ix_trace_page_trace_id"), "trace_page", ["trace_id"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        op.execute("create virtual table trace_words using fts5(words, content='', detail=none, tokenize='ascii')")
    else:
        op.execute(
            "create table trace_words (id bigint primary key "
            "references trace_page (id) on delete cascade, words tsvector not null)"
        )
        op.execute("create index ix_trace_words_words on trace_words using gin (words) with (fastupdate = off)")
    op.execute("insert into store_setting (name, value) values ('key_epoch', 0)")
