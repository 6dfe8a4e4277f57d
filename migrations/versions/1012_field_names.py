"""Rename tables and columns to the names the code uses. Constraint and index names stay as they were."""

from alembic import op

revision = "1012"
down_revision = "0011"

TABLES = (("deliveries", "webhook_deliveries"), ("tallies", "counters"), ("signing_secrets", "webhook_secrets"))
# By the new name of their table.
COLUMNS = (
    ("jobs", "owner", "api_key_id"),
    ("jobs", "webhook", "webhook_url"),
    ("jobs", "webhook_root", "public_base_url"),
    ("jobs", "emptied_at", "purge_completed_at"),
    ("images", "model", "model_name"),
    ("results", "model", "model_name"),
    ("shadow_results", "judged_at", "classified_at"),
    ("api_keys", "images_left", "image_tokens"),
    ("api_keys", "bytes_left", "byte_tokens"),
    ("api_keys", "spent_at", "tokens_updated_at"),
    ("scans", "vain", "consecutive_failures"),
    ("scans", "seals", "seal_when_done"),
    ("scans", "next_at", "next_attempt_at"),
    ("webhook_deliveries", "owner", "api_key_id"),
    ("webhook_deliveries", "next_at", "next_attempt_at"),
    ("webhook_secrets", "owner", "api_key_id"),
    ("webhook_secrets", "previous", "previous_secret"),
    ("webhook_secrets", "previous_until", "previous_expires_at"),
    ("workers", "serves", "loaded_models"),
    ("workers", "refuses", "rejected_models"),
    ("workers", "seen_at", "heartbeat_at"),
    ("workers", "progress_at", "last_progress_at"),
    ("promotions", "undone_at", "reverted_at"),
    ("promotions", "undone_by", "reverted_by"),
)


# Plain statements, which both databases know: batch mode would copy `jobs`, and dropping the old table deletes images.
def upgrade() -> None:
    for old, new in TABLES:
        op.execute(f"ALTER TABLE {old} RENAME TO {new}")
    for table, old, new in COLUMNS:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def downgrade() -> None:
    for table, old, new in reversed(COLUMNS):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}")
    for old, new in reversed(TABLES):
        op.execute(f"ALTER TABLE {new} RENAME TO {old}")
