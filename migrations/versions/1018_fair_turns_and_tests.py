"""Store the key of each image, for fair turns; and the tests of model versions, for safe promotions."""

import sqlalchemy as sa
from alembic import op

from core.db import tables

revision = "1018"
down_revision = "1017"

IS_QUEUED = "status = 'queued'"


def upgrade() -> None:
    op.add_column("images", sa.Column("api_key_id", tables.Uuid))
    op.execute(
        "UPDATE images SET api_key_id = (SELECT jobs.api_key_id FROM jobs WHERE jobs.id = images.job_id)"
        " WHERE status = 'queued' OR status = 'running'"
    )
    op.create_index(
        "ix_images_queued_of",
        "images",
        ["model_name", "api_key_id", "priority", "id"],
        sqlite_where=sa.text(IS_QUEUED),
        postgresql_where=sa.text(IS_QUEUED),
    )
    op.add_column("workers", sa.Column("loading_model_id", tables.RowId))
    op.add_column("models", sa.Column("tested_at", tables.Timestamp()))
    op.add_column("models", sa.Column("test_error", sa.String(1000)))
    # A version that was live has been served, so it has passed.
    op.execute("UPDATE models SET tested_at = created_at WHERE stage = 'live' OR stage = 'retired'")


def downgrade() -> None:
    op.drop_column("models", "test_error")
    op.drop_column("models", "tested_at")
    op.drop_column("workers", "loading_model_id")
    op.drop_index("ix_images_queued_of", "images")
    op.drop_column("images", "api_key_id")
