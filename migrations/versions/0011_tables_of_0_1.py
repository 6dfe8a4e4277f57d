"""The tables of 0.1; databases of earlier revisions were those of developers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = None

UUID = sa.String(36).with_variant(sa.UUID(as_uuid=False), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
ENVIRONMENT = ("device", "precision", "torch", "decoder", "sortbelt")
# Of each table: the name, the columns, and the condition of a partial index.
INDEXES = {
    "deliveries": (
        ("ix_deliveries_owner_id", ["owner", "id"], None),
        ("ix_deliveries_pending", ["next_at"], "status = 'pending'"),
    ),
    "images": (
        ("ix_images_custom_id", ["custom_id", "id"], "custom_id IS NOT NULL"),
        ("ix_images_queued", ["model", "priority", "id"], "status = 'queued'"),
        ("ix_images_running", ["job_id"], "status = 'running'"),
        ("ix_images_sha256", ["sha256"], None),
    ),
    "jobs": (
        ("ix_jobs_expiring", ["expires_at"], "finished_at IS NULL AND expires_at IS NOT NULL"),
        ("ix_jobs_full", ["finished_at"], "emptied_at IS NULL"),
        ("ix_jobs_newest", ["created_at", "id"], "purged_at IS NULL"),
        ("ix_jobs_newest_for", ["model", "created_at", "id"], "purged_at IS NULL"),
        ("ix_jobs_newest_of", ["owner", "created_at", "id"], "purged_at IS NULL"),
        ("ix_jobs_open", ["priority", "id"], "finished_at IS NULL"),
        ("ix_jobs_open_of", ["owner"], "finished_at IS NULL"),
        ("ix_jobs_purged", ["purged_at", "id"], "purged_at IS NOT NULL"),
        ("ix_jobs_purged_of", ["owner", "purged_at", "id"], "purged_at IS NOT NULL"),
        ("ix_jobs_retry_of", ["retry_of"], None),
    ),
    "models": (("ix_models_live", ["name"], "stage = 'live'"),),
    "promotions": (("ix_promotions_model_id", ["model_id"], None),),
    "results": (
        ("ix_results_confidence", ["confidence", "image_id"], "confidence IS NOT NULL"),
        ("ix_results_error_code", ["error_code", "image_id"], "error_code IS NOT NULL"),
        ("ix_results_finished_at", ["finished_at"], None),
        ("ix_results_job_id_image_id", ["job_id", "image_id"], None),
        ("ix_results_label_image_id", ["label", "image_id"], None),
        ("ix_results_model_image_id", ["model", "image_id"], None),
        ("ix_results_model_version_image_id", ["model_version", "image_id"], None),
    ),
    "scans": (("ix_scans_pending", ["next_at"], "status = 'pending'"),),
    "shadow_results": (("ix_shadow_results_image_id", ["image_id"], None),),
}
UNIQUE_INDEXES = {"ix_jobs_retry_of", "ix_models_live"}


def upgrade() -> None:
    for name, columns in _tables().items():
        op.create_table(name, *columns)
        for index, indexed, where in INDEXES.get(name, ()):
            condition = None if where is None else sa.text(where)
            is_unique = index in UNIQUE_INDEXES
            op.create_index(index, name, indexed, unique=is_unique, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    for name in reversed(_tables()):
        op.drop_table(name)


def _tables() -> dict[str, list[sa.schema.SchemaItem]]:
    """Return the columns and constraints of each table; constraints get their names by core/db/tables.py."""
    return {
        "api_keys": [
            sa.Column("id", UUID, primary_key=True),
            sa.Column("name", sa.String(255), nullable=False),
            sa.Column("role", sa.String(10), nullable=False),
            sa.Column("prefix", sa.String(16), nullable=False, unique=True),
            sa.Column("digest", sa.String(64), nullable=False),
            sa.Column("created_at", TIME, nullable=False),
            sa.Column("revoked_at", TIME),
            sa.Column("expires_at", TIME),
            sa.Column("images_per_minute", sa.BigInteger()),
            sa.Column("bytes_per_minute", sa.BigInteger()),
            sa.Column("open_images", sa.BigInteger()),
            sa.Column("open_bytes", sa.BigInteger()),
            sa.Column("images_left", sa.Double()),
            sa.Column("bytes_left", sa.Double()),
            sa.Column("spent_at", TIME),
        ],
        "workers": [
            sa.Column("id", sa.String(255), primary_key=True),
            sa.Column("device", sa.String(50), nullable=False),
            sa.Column("images", sa.Integer(), nullable=False),
            sa.Column("started_at", TIME, nullable=False),
            sa.Column("seen_at", TIME, nullable=False),
            sa.Column("progress_at", TIME),
            sa.Column("serves", JSON, nullable=False),
            sa.Column("refuses", JSON, nullable=False),
            sa.Column("batch_sizes", JSON),
        ],
        "environments": [
            sa.Column("id", sa.Integer(), primary_key=True),
            *[sa.Column(name, sa.String(200), nullable=False) for name in ENVIRONMENT],
            sa.UniqueConstraint(*ENVIRONMENT),
        ],
        "tallies": [
            sa.Column("name", sa.String(50), primary_key=True),
            sa.Column("labels", sa.String(500), primary_key=True),
            sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
            sa.Column("value", sa.Double(), nullable=False),
        ],
        "jobs": [
            sa.Column("id", UUID, primary_key=True),
            sa.Column("owner", UUID, sa.ForeignKey("api_keys.id"), nullable=False),
            sa.Column("model", sa.String(100), nullable=False),
            sa.Column("priority", sa.SmallInteger(), nullable=False),
            sa.Column("metadata", JSON, nullable=False),
            sa.Column("idempotency_key", sa.String(255)),
            sa.Column("fingerprint", sa.String(64)),
            sa.Column("total", sa.Integer(), nullable=False),
            sa.Column("done", sa.Integer(), nullable=False),
            sa.Column("failed", sa.Integer(), nullable=False),
            sa.Column("cancelled", sa.Integer(), nullable=False),
            sa.Column("expired", sa.Integer(), nullable=False),
            sa.Column("created_at", TIME, nullable=False),
            sa.Column("sealed_at", TIME),
            sa.Column("started_at", TIME),
            sa.Column("cancelled_at", TIME),
            sa.Column("finished_at", TIME),
            sa.Column("expires_at", TIME),
            sa.Column("purged_at", TIME),
            sa.Column("retry_of", UUID),
            sa.Column("webhook", sa.Text()),
            sa.Column("webhook_root", sa.Text()),
            sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"),
            sa.Column("emptied_at", TIME),
            sa.Column("traceparent", sa.String(55)),
            sa.CheckConstraint("done + failed + cancelled + expired <= total", name="counts"),
            sa.UniqueConstraint("owner", "idempotency_key"),
        ],
        "images": [
            sa.Column("id", ROW_ID, primary_key=True),
            sa.Column("job_id", UUID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
            sa.Column("name", sa.String(1024), nullable=False),
            sa.Column("sha256", sa.String(64), nullable=False),
            sa.Column("bytes", sa.Integer(), nullable=False),
            sa.Column("model", sa.String(100), nullable=False),
            sa.Column("priority", sa.SmallInteger(), nullable=False),
            sa.Column("status", sa.String(10), nullable=False),
            sa.Column("attempt", sa.Integer(), nullable=False),
            sa.Column("worker", sa.String(255)),
            sa.Column("claimed_at", TIME),
            sa.Column("lease_until", TIME),
            sa.Column("custom_id", sa.String(255)),
            sa.Column("source", sa.String(100)),
            sa.Column("location", sa.String(1024)),
            sa.UniqueConstraint("job_id", "name"),
        ],
        "results": [
            sa.Column(
                "image_id",
                ROW_ID,
                sa.ForeignKey("images.id", ondelete="CASCADE"),
                primary_key=True,
                autoincrement=False,
            ),
            sa.Column("job_id", UUID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
            sa.Column("status", sa.String(10), nullable=False),
            sa.Column("label", sa.String(255)),
            sa.Column("confidence", sa.Double()),
            sa.Column("scores", JSON),
            sa.Column("error_code", sa.String(50)),
            sa.Column("error_detail", sa.String(1000)),
            sa.Column("model", sa.String(100), nullable=False),
            sa.Column("model_version", sa.String(100)),
            sa.Column("model_digest", sa.String(64)),
            sa.Column("cached", sa.Boolean(), nullable=False),
            sa.Column("timings", JSON, nullable=False),
            sa.Column("finished_at", TIME, nullable=False),
            sa.Column("environment_id", sa.Integer()),
        ],
        "models": [
            sa.Column("id", ROW_ID, primary_key=True),
            sa.Column("name", sa.String(100), nullable=False),
            sa.Column("version", sa.String(100), nullable=False),
            sa.Column("digest", sa.String(64), nullable=False),
            sa.Column("manifest", JSON, nullable=False),
            sa.Column("files", JSON),
            sa.Column("stage", sa.String(10), nullable=False),
            sa.Column("share", sa.Double()),
            sa.Column("created_at", TIME, nullable=False),
            sa.Column("created_by", UUID, sa.ForeignKey("api_keys.id")),
            sa.UniqueConstraint("name", "version"),
        ],
        "promotions": [
            sa.Column("id", ROW_ID, primary_key=True),
            sa.Column("model_id", ROW_ID, sa.ForeignKey("models.id"), nullable=False),
            sa.Column("promoted_at", TIME, nullable=False),
            sa.Column("promoted_by", UUID, sa.ForeignKey("api_keys.id")),
            sa.Column("undone_at", TIME),
            sa.Column("undone_by", UUID, sa.ForeignKey("api_keys.id")),
        ],
        "shadow_results": [
            sa.Column("model_id", ROW_ID, sa.ForeignKey("models.id"), primary_key=True, autoincrement=False),
            sa.Column(
                "image_id",
                ROW_ID,
                sa.ForeignKey("images.id", ondelete="CASCADE"),
                primary_key=True,
                autoincrement=False,
            ),
            sa.Column("label", sa.String(255)),
            sa.Column("confidence", sa.Double()),
            sa.Column("scores", JSON),
            sa.Column("error_code", sa.String(50)),
            sa.Column("timings", JSON, nullable=False),
            sa.Column("judged_at", TIME, nullable=False),
        ],
        "deliveries": [
            sa.Column("id", UUID, primary_key=True),
            sa.Column("job_id", UUID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
            sa.Column("owner", UUID, sa.ForeignKey("api_keys.id"), nullable=False),
            sa.Column("event", sa.String(50), nullable=False),
            sa.Column("url", sa.Text(), nullable=False),
            sa.Column("status", sa.String(10), nullable=False),
            sa.Column("attempts", sa.Integer(), nullable=False),
            sa.Column("next_at", TIME),
            sa.Column("lease_until", TIME),
            sa.Column("attempted_at", TIME),
            sa.Column("response_status", sa.Integer()),
            sa.Column("error", sa.String(500)),
            sa.Column("created_at", TIME, nullable=False),
            sa.Column("ended_at", TIME),
            sa.UniqueConstraint("job_id", "event"),
        ],
        "signing_secrets": [
            sa.Column("owner", UUID, sa.ForeignKey("api_keys.id"), primary_key=True),
            sa.Column("secret", sa.String(100), nullable=False),
            sa.Column("created_at", TIME, nullable=False),
            sa.Column("previous", sa.String(100)),
            sa.Column("previous_until", TIME),
        ],
        "scans": [
            sa.Column("id", UUID, primary_key=True),
            sa.Column("job_id", UUID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, unique=True),
            sa.Column("source", sa.String(100), nullable=False),
            sa.Column("prefix", sa.String(1024), nullable=False),
            sa.Column("include", JSON, nullable=False),
            sa.Column("exclude", JSON, nullable=False),
            sa.Column("seals", sa.Boolean(), nullable=False),
            sa.Column("status", sa.String(10), nullable=False),
            sa.Column("cursor", sa.String(1024)),
            sa.Column("found", sa.Integer(), nullable=False),
            sa.Column("skipped", sa.Integer(), nullable=False),
            sa.Column("vain", sa.Integer(), nullable=False),
            sa.Column("next_at", TIME),
            sa.Column("lease_until", TIME),
            sa.Column("error", sa.String(500)),
            sa.Column("created_at", TIME, nullable=False),
            sa.Column("ended_at", TIME),
        ],
    }
