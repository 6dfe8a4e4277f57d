"""Store the key of each URL fetch, so that the dispatcher gives each key a share."""

import sqlalchemy as sa
from alembic import op

from core.db import tables

revision = "1022"
down_revision = "1021"

IS_PENDING = "status = 'pending'"


def upgrade() -> None:
    op.add_column("url_fetches", sa.Column("api_key_id", tables.Uuid, nullable=True))
    op.execute(
        "UPDATE url_fetches SET api_key_id = (SELECT jobs.api_key_id FROM jobs JOIN images ON images.job_id = jobs.id"
        " WHERE images.id = url_fetches.image_id) WHERE status = 'pending'"
    )
    op.create_index(
        "ix_url_fetches_pending_of",
        "url_fetches",
        ["api_key_id", "next_attempt_at"],
        sqlite_where=sa.text(IS_PENDING),
        postgresql_where=sa.text(IS_PENDING),
    )


def downgrade() -> None:
    op.drop_index("ix_url_fetches_pending_of", "url_fetches")
    op.drop_column("url_fetches", "api_key_id")
