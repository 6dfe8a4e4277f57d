"""Environments: in which results were made; how large the batches of a worker may be."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    sizes = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("workers", sa.Column("batch_sizes", sizes, nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "batch_sizes")
