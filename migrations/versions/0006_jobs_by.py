"""Purges that go on where they stopped; indexes for lists of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

UNPURGED = sa.text("purged_at IS NULL")
FULL = sa.text("emptied_at IS NULL")
LISTS = (
    ("ix_jobs_newest", ["created_at", "id"]),
    ("ix_jobs_newest_of", ["owner", "created_at", "id"]),
    ("ix_jobs_newest_for", ["model", "created_at", "id"]),
)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("emptied_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE jobs SET emptied_at = purged_at WHERE purged_at IS NOT NULL")
    op.drop_index("ix_jobs_unpurged", "jobs")
    op.create_index("ix_jobs_full", "jobs", ["finished_at"], sqlite_where=FULL, postgresql_where=FULL)
    for name, columns in LISTS:
        op.create_index(name, "jobs", columns, sqlite_where=UNPURGED, postgresql_where=UNPURGED)
    op.drop_index("ix_jobs_owner_id", "jobs")


def downgrade() -> None:
    op.create_index("ix_jobs_owner_id", "jobs", ["owner", "id"])
    for name, _ in LISTS:
        op.drop_index(name, "jobs")
    op.drop_index("ix_jobs_full", "jobs")
    op.create_index("ix_jobs_unpurged", "jobs", ["finished_at"], sqlite_where=UNPURGED, postgresql_where=UNPURGED)
    op.drop_column("jobs", "emptied_at")
