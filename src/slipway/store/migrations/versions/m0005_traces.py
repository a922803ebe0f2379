"""Traces that came together share sealed pages; words are found by blocks of hashes instead of a full-text table."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.execute("drop table if exists trace_words")
    op.drop_column("trace_page", "indexed")
    op.add_column("trace", sa.Column("page", Number, nullable=True))
    for name in ("session", "subject"):
        op.drop_index(f"ix_trace_project_{name}", table_name="trace")
    op.create_index("ix_trace_project_session_started_ns", "trace", ["project", "session", "started_ns"])
    where = sa.text("subject is not null")
    op.create_index(
        "ix_trace_project_subject_started_ns",
        "trace",
        ["project", "subject", "started_ns"],
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_table(
        "shared_page",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("members", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Content of traces about one person, or about nobody, that came together: zstd, sealed per person.",
    )
    op.create_table(
        "word_members",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("block", Number, autoincrement=False, nullable=False),
        sa.Column("loose", sa.Boolean(), nullable=False),
        sa.Column("lowest", Number, nullable=False),
        sa.Column("highest", Number, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "block"),
        comment="Which traces a block of the word index is about, by their slots.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "word_block",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("block", Number, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "bucket", "block"),
        comment="Words of a block by first letter, as hashes with the slots of the traces that hold them.",
        sqlite_with_rowid=False,
    )
    # What was there before has no words in the new index yet: the ingester adds them when it starts, because it has the
    # keys. A fresh database has nothing to add.
    if op.get_bind().scalar(sa.text("select count(*) from trace_page")):
        op.execute("insert into store_setting (name, value) values ('words_to_rebuild', 1)")
