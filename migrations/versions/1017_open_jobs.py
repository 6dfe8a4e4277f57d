"""Open jobs: when each got its last image, an index for them, and the id of this installation."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "1017"
down_revision = "1016"

OPEN = sa.text("sealed_at IS NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("last_fed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_jobs_unsealed", "jobs", ["api_key_id"], sqlite_where=OPEN, postgresql_where=OPEN)
    installations = op.create_table("installations", sa.Column("id", sa.String(36), primary_key=True))
    op.bulk_insert(installations, [{"id": str(uuid.uuid4())}])


def downgrade() -> None:
    op.drop_table("installations")
    op.drop_index("ix_jobs_unsealed", "jobs")
    op.drop_column("jobs", "last_fed_at")
