"""Scans report what they left out; images may be fetched from URLs."""

import sqlalchemy as sa
from alembic import op

from core.db import tables

revision = "1016"
down_revision = "1015"


def upgrade() -> None:
    op.add_column("scans", sa.Column("skipped_by_reason", tables.Json, nullable=True))
    op.add_column("scans", sa.Column("left_out", tables.Json, nullable=True))
    op.create_table(
        "url_fetches",
        sa.Column("id", tables.Uuid, nullable=False),
        sa.Column("image_id", tables.RowId, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", tables.Timestamp(), nullable=True),
        sa.Column("lease_until", tables.Timestamp(), nullable=True),
        sa.Column("ended_at", tables.Timestamp(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_url_fetches_image_id_images"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_url_fetches")),
        sa.UniqueConstraint("image_id", name=op.f("uq_url_fetches_image_id")),
    )
    pending = sa.text("status = 'pending'")
    op.create_index(
        "ix_url_fetches_pending",
        "url_fetches",
        ["next_attempt_at"],
        sqlite_where=pending,
        postgresql_where=pending,
    )


def downgrade() -> None:
    op.drop_table("url_fetches")
    op.drop_column("scans", "left_out")
    op.drop_column("scans", "skipped_by_reason")
