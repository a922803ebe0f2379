"""Sums of what was used have the number of their last addition: who reads them again reads only those that changed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("spending", sa.Column("written", number, nullable=False, server_default="0"))
    op.create_index("ix_spending_project_period_written", "spending", ["project", "period", "written"])
