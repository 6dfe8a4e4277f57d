"""Familiarity of results and of shadow results; scores and familiarity in the view of results."""

import sqlalchemy as sa
from alembic import op

revision = "1014"
down_revision = "1013"

KNOWN = sa.text("familiarity IS NOT NULL")
OLD_COLUMNS = """
    SELECT results.image_id, results.job_id, api_keys.name AS owner, images.name AS image, results.status, label,
        confidence, error_code, error_detail, results.model_name AS model, model_version, model_digest, cached,
        images.sha256, images.bytes, images.attempt, results.finished_at, images.custom_id,
        images.source, images.location, images.worker, device, precision, torch, decoder, sortbelt"""
NEW_COLUMNS = """,
        scores, familiarity"""
TABLES = """
    FROM results
    JOIN images ON images.id = results.image_id
    LEFT JOIN environments ON environments.id = results.environment_id
    JOIN jobs ON jobs.id = results.job_id
    JOIN api_keys ON api_keys.id = jobs.api_key_id"""


def upgrade() -> None:
    for table in ("results", "shadow_results"):
        op.add_column(table, sa.Column("familiarity", sa.Double(), nullable=True))
    op.create_index(
        "ix_results_familiarity",
        "results",
        ["familiarity", "image_id"],
        sqlite_where=KNOWN,
        postgresql_where=KNOWN,
    )
    # PostgreSQL drops no view on which others depend, but replaces one by another with more columns at its end.
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW v_results")
        op.execute(f"CREATE VIEW v_results AS{OLD_COLUMNS}{NEW_COLUMNS}{TABLES}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW v_results AS{OLD_COLUMNS}{NEW_COLUMNS}{TABLES}")


def downgrade() -> None:
    op.execute("DROP VIEW v_results")
    op.drop_index("ix_results_familiarity", "results")
    for table in ("shadow_results", "results"):
        op.drop_column(table, "familiarity")
    op.execute(f"CREATE VIEW v_results AS{OLD_COLUMNS}{TABLES}")
