"""SQLite: give no id of an image twice, as PostgreSQL does.

The id of a deleted image was that of the next new one: the late result of the one would be stored for the other.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "1024"
down_revision = "1023"

COLUMNS: list[sa.Column[Any]] = [
    sa.Column("id", sa.Integer(), nullable=False),
    sa.Column("job_id", sa.String(36), nullable=False),
    sa.Column("api_key_id", sa.String(36)),
    sa.Column("name", sa.String(1024), nullable=False),
    sa.Column("custom_id", sa.String(255)),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.Integer(), nullable=False),
    sa.Column("source", sa.String(100)),
    sa.Column("location", sa.String(1024)),
    sa.Column("model_name", sa.String(100), nullable=False),
    sa.Column("priority", sa.SmallInteger(), nullable=False),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("worker", sa.String(255)),
    sa.Column("claimed_at", sa.DateTime(timezone=True)),
    sa.Column("lease_until", sa.DateTime(timezone=True)),
]


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    run = connection.exec_driver_sql
    if run("PRAGMA foreign_keys").scalar() and run("SELECT 1 FROM images LIMIT 1").scalar():
        # Dropping the old table would delete what refers to its rows.
        raise RuntimeError("This migration needs a connection without foreign keys: run `python -m migrations`.")
    indexes = run("SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'images' AND sql IS NOT NULL")
    index_statements = indexes.scalars().all()
    op.create_table(
        "new_images",
        *COLUMNS,
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("job_id", "name", name="uq_images_job_id_name"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_images_job_id_jobs", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    names = ", ".join(column.name for column in COLUMNS)
    run(f"INSERT INTO new_images ({names}) SELECT {names} FROM images ORDER BY id")  # noqa: S608 (constants)
    # The receipt of a deleted image whose id was given again belongs to no image any more.
    run("DELETE FROM image_deletions WHERE image_id IN (SELECT id FROM images)")
    run("DROP TABLE images")
    run("PRAGMA legacy_alter_table = ON")  # views refer to the table meanwhile
    run("ALTER TABLE new_images RENAME TO images")
    run("PRAGMA legacy_alter_table = OFF")
    for statement in index_statements:
        run(statement)
    last_id = "(SELECT max(id) FROM (SELECT id FROM images UNION ALL SELECT image_id FROM image_deletions))"
    run("DELETE FROM sqlite_sequence WHERE name = 'images'")
    run(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('images', coalesce({last_id}, 0))")  # noqa: S608 (constant)


def downgrade() -> None:
    """Programs of earlier releases use the table as it is."""
