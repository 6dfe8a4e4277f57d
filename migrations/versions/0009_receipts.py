"""Receipts: indexes for what was purged."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

PURGED = sa.text("purged_at IS NOT NULL")
LISTS = (("ix_jobs_purged", ["purged_at", "id"]), ("ix_jobs_purged_of", ["owner", "purged_at", "id"]))


def upgrade() -> None:
    for name, columns in LISTS:
        op.create_index(name, "jobs", columns, sqlite_where=PURGED, postgresql_where=PURGED)


def downgrade() -> None:
    for name, _ in LISTS:
        op.drop_index(name, "jobs")
