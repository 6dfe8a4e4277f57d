"""Scans: jobs that are filled from a source, and images in a source."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

PENDING = sa.text("status = 'pending'")
PLACE = (("source", 100), ("location", 1024))


def upgrade() -> None:
    uuid = sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")
    json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    moment = sa.DateTime(timezone=True)
    for name, length in PLACE:
        op.add_column("images", sa.Column(name, sa.String(length=length), nullable=True))
    op.create_table(
        "scans",
        sa.Column("id", uuid, nullable=False),
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("prefix", sa.String(length=1024), nullable=False),
        sa.Column("include", json, nullable=False),
        sa.Column("exclude", json, nullable=False),
        sa.Column("seals", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("cursor", sa.String(length=1024), nullable=True),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("vain", sa.Integer(), nullable=False),
        sa.Column("next_at", moment, nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("ended_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_scans_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scans")),
        sa.UniqueConstraint("job_id", name=op.f("uq_scans_job_id")),
    )
    op.create_index("ix_scans_pending", "scans", ["next_at"], sqlite_where=PENDING, postgresql_where=PENDING)


def downgrade() -> None:
    op.drop_table("scans")
    for name, _ in reversed(PLACE):
        op.drop_column("images", name)
