"""Webhooks: URLs of jobs, deliveries, and signing secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    # Not in batch mode: SQLite would make the table anew, and dropping the old one would delete all images with it.
    uuid = sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")
    moment = sa.DateTime(timezone=True)
    op.add_column("jobs", sa.Column("webhook", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("webhook_root", sa.Text(), nullable=True))
    op.create_table(
        "deliveries",
        sa.Column("id", uuid, nullable=False),
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("owner", uuid, nullable=False),
        sa.Column("event", sa.String(length=50), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", moment, nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("attempted_at", moment, nullable=True),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("ended_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["owner"], ["api_keys.id"], name=op.f("fk_deliveries_owner_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("job_id", "event", name=op.f("uq_deliveries_job_id_event")),
    )
    op.create_index(op.f("ix_deliveries_owner_id"), "deliveries", ["owner", "id"])
    op.create_index("ix_deliveries_pending", "deliveries", ["next_at"], sqlite_where=PENDING, postgresql_where=PENDING)
    op.create_table(
        "signing_secrets",
        sa.Column("owner", uuid, nullable=False),
        sa.Column("secret", sa.String(length=100), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("previous", sa.String(length=100), nullable=True),
        sa.Column("previous_until", moment, nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["api_keys.id"], name=op.f("fk_signing_secrets_owner_api_keys")),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_signing_secrets")),
    )


def downgrade() -> None:
    op.drop_table("signing_secrets")
    op.drop_table("deliveries")
    op.drop_column("jobs", "webhook_root")
    op.drop_column("jobs", "webhook")
