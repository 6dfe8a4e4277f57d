"""Environments: in which results were made; how large the batches of a worker may be."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

SAID = ("device", "precision", "torch", "decoder", "sortbelt")


def upgrade() -> None:
    op.create_table(
        "environments",
        sa.Column("id", sa.Integer(), nullable=False),
        *[sa.Column(name, sa.String(length=200), nullable=False) for name in SAID],
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
        sa.UniqueConstraint(*SAID, name=op.f(f"uq_environments_{'_'.join(SAID)}")),
    )
    op.add_column("results", sa.Column("environment_id", sa.Integer(), nullable=True))
    sizes = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("workers", sa.Column("batch_sizes", sizes, nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "batch_sizes")
    op.drop_column("results", "environment_id")
    op.drop_table("environments")
