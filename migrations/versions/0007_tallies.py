"""Tallies: counts of what has happened, for metrics."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("labels", sa.String(length=500), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", "shard", name="pk_tallies"),
    )


def downgrade() -> None:
    op.drop_table("tallies")
