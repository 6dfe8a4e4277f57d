"""Quotas and ends of keys; the bytes of jobs; the callers' own identifiers; indexes for filters and purges."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

OPEN = "finished_at IS NULL"
UNPURGED = "purged_at IS NULL"
NAMED = "custom_id IS NOT NULL"
PARTIAL = (
    ("ix_jobs_open_of", "jobs", ["owner"], OPEN),
    ("ix_jobs_unpurged", "jobs", ["finished_at"], UNPURGED),
    ("ix_images_custom_id", "images", ["custom_id", "id"], NAMED),
)
MODELS = ("model", "model_version")
KEY_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("expires_at", sa.DateTime(timezone=True)),
    ("images_per_minute", sa.BigInteger()),
    ("bytes_per_minute", sa.BigInteger()),
    ("open_images", sa.BigInteger()),
    ("open_bytes", sa.BigInteger()),
    ("images_left", sa.Double()),
    ("bytes_left", sa.Double()),
    ("spent_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    for name, kind in KEY_COLUMNS:
        op.add_column("api_keys", sa.Column(name, kind, nullable=True))
    # With a default, because programs of the revision before go on making jobs.
    op.add_column("jobs", sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"))
    total = "(SELECT coalesce(sum(images.bytes), 0) FROM images WHERE images.job_id = jobs.id)"
    op.execute(f"UPDATE jobs SET bytes = {total} WHERE {OPEN}")  # noqa: S608 (our own words)
    op.add_column("images", sa.Column("custom_id", sa.String(length=255), nullable=True))
    for name, table, columns, where in PARTIAL:
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    for column in MODELS:
        op.create_index(f"ix_results_{column}_image_id", "results", [column, "image_id"])


def downgrade() -> None:
    for column in MODELS:
        op.drop_index(f"ix_results_{column}_image_id", "results")
    for name, table, *_ in PARTIAL:
        op.drop_index(name, table)
    op.drop_column("images", "custom_id")
    op.drop_column("jobs", "bytes")
    for name, _ in reversed(KEY_COLUMNS):
        op.drop_column("api_keys", name)
