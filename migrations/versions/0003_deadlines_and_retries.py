"""Deadlines, retries and purges of jobs; the jobs that are not over; whose bytes are known; the least confident."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

OPEN = "finished_at IS NULL"
EXPIRING = "finished_at IS NULL AND expires_at IS NOT NULL"


def upgrade() -> None:
    # Not in batch mode: SQLite would make the table anew, and dropping the old one would delete all images with it.
    uuid = sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")
    op.add_column("jobs", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("retry_of", uuid, nullable=True))
    op.create_index("ix_jobs_retry_of", "jobs", ["retry_of"], unique=True)
    for name, columns, where in (
        ("ix_jobs_open", ["priority", "id"], OPEN),
        ("ix_jobs_expiring", ["expires_at"], EXPIRING),
    ):
        op.create_index(name, "jobs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_index("ix_images_sha256", "images", ["sha256"])
    for column in ("confidence", "error_code"):
        there = sa.text(f"{column} IS NOT NULL")
        columns = [column, "image_id"]
        op.create_index(f"ix_results_{column}", "results", columns, sqlite_where=there, postgresql_where=there)


def downgrade() -> None:
    op.drop_index("ix_results_error_code", "results")
    op.drop_index("ix_results_confidence", "results")
    op.drop_index("ix_images_sha256", "images")
    for name in ("ix_jobs_expiring", "ix_jobs_open", "ix_jobs_retry_of"):
        op.drop_index(name, "jobs")
    for name in ("retry_of", "purged_at", "expires_at"):
        op.drop_column("jobs", name)
