"""Store the process of each worker, so that others on its host see that it is dead."""

import sqlalchemy as sa
from alembic import op

revision = "1023"
down_revision = "1022"


def upgrade() -> None:
    op.add_column("workers", sa.Column("pid", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("pid_namespace", sa.String(500), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "pid_namespace")
    op.drop_column("workers", "pid")
