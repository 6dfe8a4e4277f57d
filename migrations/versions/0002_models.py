"""The registry of models; workers that serve several of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("files", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True),
        sa.Column("stage", sa.String(length=10), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql"), nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["api_keys.id"], name=op.f("fk_models_created_by_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_models_name_version")),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.create_index(
            "ix_models_live",
            ["name"],
            unique=True,
            sqlite_where=sa.text("stage = 'live'"),
            postgresql_where=sa.text("stage = 'live'"),
        )

    op.create_table(
        "promotions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "promoted_by", sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql"), nullable=True
        ),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.String(length=36).with_variant(sa.UUID(as_uuid=False), "postgresql"), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_promotions_model_id_models")),
        sa.ForeignKeyConstraint(["promoted_by"], ["api_keys.id"], name=op.f("fk_promotions_promoted_by_api_keys")),
        sa.ForeignKeyConstraint(["undone_by"], ["api_keys.id"], name=op.f("fk_promotions_undone_by_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    with op.batch_alter_table("promotions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_promotions_model_id"), ["model_id"], unique=False)

    op.create_table(
        "shadow_results",
        sa.Column(
            "model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "image_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("label", sa.String(length=255), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("scores", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True),
        sa.Column("error_code", sa.String(length=50), nullable=True),
        sa.Column("timings", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_shadow_results_image_id_images"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_shadow_results_model_id_models")),
        sa.PrimaryKeyConstraint("model_id", "image_id", name=op.f("pk_shadow_results")),
    )
    with op.batch_alter_table("shadow_results", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_shadow_results_image_id"), ["image_id"], unique=False)

    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_images_queued", sqlite_where=sa.text("status = 'queued'"), postgresql_where=sa.text("status = 'queued'")
        )
        batch_op.create_index(
            "ix_images_queued",
            ["model", "priority", "id"],
            unique=False,
            sqlite_where=sa.text("status = 'queued'"),
            postgresql_where=sa.text("status = 'queued'"),
        )

    op.execute("DELETE FROM workers")  # running workers register again
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("serves", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False)
        )
        batch_op.add_column(
            sa.Column("refuses", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False)
        )
        batch_op.drop_column("model_digest")
        batch_op.drop_column("model")
        batch_op.drop_column("model_version")


def downgrade() -> None:
    op.execute("DELETE FROM workers")  # running workers register again
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("model_version", sa.String(length=100), nullable=False))
        batch_op.add_column(sa.Column("model", sa.String(length=100), nullable=False))
        batch_op.add_column(sa.Column("model_digest", sa.String(length=64), nullable=False))
        batch_op.drop_column("refuses")
        batch_op.drop_column("serves")

    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_images_queued", sqlite_where=sa.text("status = 'queued'"), postgresql_where=sa.text("status = 'queued'")
        )
        batch_op.create_index(
            "ix_images_queued",
            ["priority", "id"],
            unique=False,
            sqlite_where=sa.text("status = 'queued'"),
            postgresql_where=sa.text("status = 'queued'"),
        )

    with op.batch_alter_table("shadow_results", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_shadow_results_image_id"))

    op.drop_table("shadow_results")
    with op.batch_alter_table("promotions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_promotions_model_id"))

    op.drop_table("promotions")
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_models_live", sqlite_where=sa.text("stage = 'live'"), postgresql_where=sa.text("stage = 'live'")
        )

    op.drop_table("models")
