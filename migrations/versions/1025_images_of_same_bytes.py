"""Index images by their bytes and their key: one probe finds an image, however many have the same bytes.

The key of each image is stored also for those that had ended before revision 1018. The old index is removed last: on
PostgreSQL its removal locks out readers until the transaction ends.
"""

import sqlalchemy as sa
from alembic import op

revision = "1025"
down_revision = "1024"

IS_DONE = "status = 'done'"


def upgrade() -> None:
    op.execute(
        "UPDATE images SET api_key_id = (SELECT jobs.api_key_id FROM jobs WHERE jobs.id = images.job_id)"
        " WHERE api_key_id IS NULL"
    )
    op.create_index("ix_images_digest", "images", ["sha256", "source", "api_key_id", "id"])
    op.create_index(
        "ix_images_cached",
        "images",
        ["sha256", "model_name", "api_key_id", "id"],
        sqlite_where=sa.text(IS_DONE),
        postgresql_where=sa.text(IS_DONE),
    )
    op.drop_index("ix_images_sha256", "images")


def downgrade() -> None:
    op.create_index("ix_images_sha256", "images", ["sha256"])
    op.drop_index("ix_images_cached", "images")
    op.drop_index("ix_images_digest", "images")
