"""Names of jobs, unique names of keys, and receipts of what was deleted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "1020"
down_revision = "1018"

UUID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LIVE = sa.text("revoked_at IS NULL")
DELETING = sa.text("deleted_by IS NOT NULL AND purge_completed_at IS NULL")
MAX_NAME = 255
# As core/db/views.py defined it when this revision was written, but for the last column.
JOBS_VIEW = """
    SELECT jobs.id, api_keys.name AS owner, jobs.model,
        CASE jobs.priority WHEN 0 THEN 'interactive' ELSE 'bulk' END AS priority,
        CASE
            WHEN jobs.finished_at IS NULL AND (jobs.done + jobs.failed + jobs.cancelled + jobs.expired > 0 OR EXISTS (
                SELECT 1 FROM images WHERE images.job_id = jobs.id AND images.status = 'running'
            )) THEN 'running'
            WHEN jobs.finished_at IS NULL THEN 'queued'
            WHEN jobs.cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN EXISTS (
                SELECT 1 FROM scans WHERE scans.job_id = jobs.id AND scans.status = 'failed'
            ) THEN 'failed'
            WHEN jobs.done > 0 THEN 'done'
            WHEN jobs.failed > 0 THEN 'failed'
            WHEN jobs.expired > 0 THEN 'expired'
            ELSE 'done'
        END AS status,
        total, done, failed, cancelled, expired, metadata,
        jobs.created_at, sealed_at, started_at, finished_at, jobs.expires_at, retry_of, purged_at{more}
    FROM jobs JOIN api_keys ON api_keys.id = jobs.api_key_id"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("name", sa.String(255), nullable=True))
    op.add_column("jobs", sa.Column("deleted_by", UUID, nullable=True))
    op.create_index("ix_jobs_deleting", "jobs", ["purged_at"], sqlite_where=DELETING, postgresql_where=DELETING)
    _rename_namesakes(op.get_bind())
    op.create_index(
        "ix_api_keys_live_name", "api_keys", ["name"], unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_table(
        "image_deletions",
        sa.Column("image_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("job_id", UUID, nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_by", UUID, nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_image_deletions_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["deleted_by"], ["api_keys.id"], name=op.f("fk_image_deletions_deleted_by_api_keys")),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_image_deletions")),
    )
    op.create_index(op.f("ix_image_deletions_job_id"), "image_deletions", ["job_id"])
    # PostgreSQL drops no view on which others depend, but replaces one by another with more columns at its end.
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW v_jobs")
        op.execute(f"CREATE VIEW v_jobs AS{JOBS_VIEW.format(more=', jobs.name')}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW v_jobs AS{JOBS_VIEW.format(more=', jobs.name')}")


def downgrade() -> None:
    op.execute("DROP VIEW v_jobs")
    op.drop_table("image_deletions")
    op.drop_index("ix_api_keys_live_name", "api_keys")
    op.drop_index("ix_jobs_deleting", "jobs")
    op.drop_column("jobs", "deleted_by")
    op.drop_column("jobs", "name")
    op.execute(f"CREATE VIEW v_jobs AS{JOBS_VIEW.format(more='')}")


def _rename_namesakes(conn: sa.Connection) -> None:
    """Give keys with the name of an older valid one a number, as in `camera (2)`."""
    keys = sa.table("api_keys", sa.column("id"), sa.column("name"), sa.column("revoked_at"))
    rows = conn.execute(sa.select(keys.c.id, keys.c.name).where(keys.c.revoked_at.is_(None)).order_by(keys.c.id)).all()
    taken = {row.name for row in rows}
    seen = set()
    for row in rows:
        name, number = row.name, 1
        while name in seen or (name != row.name and name in taken):
            number += 1
            suffix = f" ({number})"
            name = row.name[: MAX_NAME - len(suffix)] + suffix
        seen.add(name)
        if name != row.name:
            conn.execute(sa.update(keys).where(keys.c.id == row.id).values(name=name))
