"""Reviews of results, the leases of their queue, and both in the views."""

import sqlalchemy as sa
from alembic import op

revision = "1015"
down_revision = "1014"

CURRENT = sa.text("replaced_at IS NULL")
COLUMNS = """
    SELECT results.image_id, results.job_id, api_keys.name AS owner, images.name AS image, results.status,
        results.label,
        confidence, error_code, error_detail, results.model_name AS model, results.model_version, model_digest, cached,
        images.sha256, images.bytes, images.attempt, results.finished_at, images.custom_id,
        images.source, images.location, images.worker, device, precision, torch, decoder, sortbelt,
        scores, familiarity"""
REVIEW_COLUMNS = ", reviews.verdict AS review, reviews.label AS review_label"
TABLES = """
    FROM results
    JOIN images ON images.id = results.image_id
    LEFT JOIN environments ON environments.id = results.environment_id"""
REVIEW_TABLE = """
    LEFT JOIN reviews ON reviews.image_id = results.image_id AND reviews.replaced_at IS NULL"""
JOB_TABLES = """
    JOIN jobs ON jobs.id = results.job_id
    JOIN api_keys ON api_keys.id = jobs.api_key_id"""
REVIEWS_VIEW = """
    SELECT reviews.id AS review_id, reviews.image_id, reviews.job_id, images.name AS image, images.sha256,
        results.label AS model_label, results.confidence, results.familiarity, reviews.verdict, reviews.label,
        reviews.note, api_keys.name AS reviewed_by, reviews.reviewed_at, reviews.strategy, reviews.draw_probability,
        reviews.model_name AS model, reviews.model_version, reviews.replaced_at
    FROM reviews
    JOIN images ON images.id = reviews.image_id
    JOIN results ON results.image_id = reviews.image_id
    JOIN api_keys ON api_keys.id = reviews.reviewed_by"""


def upgrade() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    uuid = sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql")
    op.create_table(
        "reviews",
        sa.Column("id", row_id, nullable=False),
        sa.Column("image_id", row_id, nullable=False),
        sa.Column("job_id", uuid, nullable=False),
        sa.Column("model_name", sa.String(length=100), nullable=False),
        sa.Column("model_version", sa.String(length=100), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=True),
        sa.Column("note", sa.String(length=1000), nullable=True),
        sa.Column("reviewed_by", uuid, nullable=False),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("strategy", sa.String(length=20), nullable=True),
        sa.Column("draw_probability", sa.Double(), nullable=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_reviews_image_id_images"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["reviewed_by"], ["api_keys.id"], name=op.f("fk_reviews_reviewed_by_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_image_id_id"), "reviews", ["image_id", "id"])
    for name, columns, is_unique in (
        ("ix_reviews_current_image_id", ["image_id"], True),
        ("ix_reviews_current", ["model_name", "model_version", "id"], False),
    ):
        op.create_index(name, "reviews", columns, unique=is_unique, sqlite_where=CURRENT, postgresql_where=CURRENT)
    op.create_table(
        "review_leases",
        sa.Column("image_id", row_id, autoincrement=False, nullable=False),
        sa.Column("leased_by", uuid, nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_name", sa.String(length=100), nullable=False),
        sa.Column("model_version", sa.String(length=100), nullable=False),
        sa.Column("strategy", sa.String(length=20), nullable=False),
        sa.Column("draw_probability", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_review_leases_image_id_images"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["leased_by"], ["api_keys.id"], name=op.f("fk_review_leases_leased_by_api_keys")),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_review_leases")),
    )
    for column in ("leased_by", "lease_until"):
        op.create_index(op.f(f"ix_review_leases_{column}"), "review_leases", [column])
    query = f"{COLUMNS}{REVIEW_COLUMNS}{TABLES}{REVIEW_TABLE}{JOB_TABLES}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW v_results")
        op.execute(f"CREATE VIEW v_results AS{query}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW v_results AS{query}")
    op.execute(f"CREATE VIEW v_reviews AS{REVIEWS_VIEW}")


def downgrade() -> None:
    op.execute("DROP VIEW v_reviews")
    op.execute("DROP VIEW v_results")
    op.drop_table("review_leases")
    op.drop_table("reviews")
    op.execute(f"CREATE VIEW v_results AS{COLUMNS}{TABLES}{JOB_TABLES}")
