"""Log records may come before the span that they belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0001"
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "waiting_event",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("trace", sa.LargeBinary(), nullable=False),
        sa.Column("span", sa.LargeBinary(), nullable=False),
        sa.Column("arrived_us", Number, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Log records that came before their span, sealed; they are joined to it, or dropped after a day.",
    )
    op.create_index(op.f("ix_waiting_event_project_trace"), "waiting_event", ["project", "trace"], unique=False)
