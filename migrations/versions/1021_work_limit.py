"""Keys have a limit of seconds of work per minute."""

import sqlalchemy as sa
from alembic import op

revision = "1021"
down_revision = "1020"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("work_seconds_per_minute", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("work_tokens", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "work_tokens")
    op.drop_column("api_keys", "work_seconds_per_minute")
