"""Traces that went well, and those of no conversation, leave the indexes by status and by session."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name, rows in (("status", "status <> 'ok'"), ("session", "session <> ''")):
        index = f"ix_trace_project_{name}_started_ns"
        op.drop_index(index, table_name="trace")
        where = sa.text(rows)
        columns = ["project", name, "started_ns"]
        op.create_index(index, "trace", columns, sqlite_where=where, postgresql_where=where)
