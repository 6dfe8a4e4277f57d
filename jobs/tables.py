"""The tables, and what each status means."""

import enum
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

REVISION = "0001"
"""The newest migration: what these tables are like. A program works on this revision and on later ones."""


class Status(enum.StrEnum):
    """What has become of an image; the four last are final and have a row in `results`."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds it until `lease_until`; then anyone may queue it again
    DONE = "done"  # has a label
    FAILED = "failed"  # has an error code
    CANCELLED = "cancelled"  # its owner called it off before a worker took it
    EXPIRED = "expired"  # its deadline passed before a worker took it


class Priority(enum.IntEnum):
    """Who is served first; the smaller number."""

    INTERACTIVE = 0
    BULK = 1


class Role(enum.StrEnum):
    """What a key may do; each role may do what the ones before it may."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class Timestamp(sa.types.TypeDecorator[datetime]):
    """A moment, always in UTC, on databases with and without time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To the database: UTC; without its zone where the database has none."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy names the arguments)
        """From the database: UTC, with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Text that looks as it does in the API; 16 bytes where the database has the type.
Uuid = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
# SQLite numbers rows by itself only where the key is exactly INTEGER.
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Base(orm.DeclarativeBase):
    """Names every constraint, so that a migration can speak of it."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Timestamp, dict[str, Any]: Json}  # noqa: RUF012 (SQLAlchemy's own spelling)


class ApiKey(Base):
    """Who may knock. The key itself is never stored."""

    __tablename__ = "api_keys"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    role: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    prefix: orm.Mapped[str] = orm.mapped_column(sa.String(16), unique=True)
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    created_at: orm.Mapped[datetime]
    revoked_at: orm.Mapped[datetime | None]


class Job(Base):
    """What somebody asked for. Its images that are neither ended nor running are queued."""

    __tablename__ = "jobs"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    owner: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))
    model: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    priority: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    meta: orm.Mapped[dict[str, Any]] = orm.mapped_column("metadata")
    idempotency_key: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    fingerprint: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))

    total: orm.Mapped[int]
    done: orm.Mapped[int]
    failed: orm.Mapped[int]
    cancelled: orm.Mapped[int]
    expired: orm.Mapped[int]

    created_at: orm.Mapped[datetime]
    sealed_at: orm.Mapped[datetime | None]
    started_at: orm.Mapped[datetime | None]
    cancelled_at: orm.Mapped[datetime | None]
    finished_at: orm.Mapped[datetime | None]

    __table_args__ = (
        sa.UniqueConstraint("owner", "idempotency_key"),
        sa.Index(None, "owner", "id"),
        sa.CheckConstraint("done + failed + cancelled + expired <= total", name="counts"),
    )


class Image(Base):
    """One picture of a job, and who is at work on it."""

    __tablename__ = "images"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    bytes: orm.Mapped[int]
    model: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    priority: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    attempt: orm.Mapped[int]
    worker: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    claimed_at: orm.Mapped[datetime | None]
    lease_until: orm.Mapped[datetime | None]

    __table_args__ = (
        sa.UniqueConstraint("job_id", "name"),
        # The open work, in the order in which it is served: small however large the table.
        sa.Index(
            "ix_images_queued",
            "priority",
            "id",
            sqlite_where=sa.text("status = 'queued'"),
            postgresql_where=sa.text("status = 'queued'"),
        ),
        sa.Index(
            "ix_images_running",
            "job_id",
            sqlite_where=sa.text("status = 'running'"),
            postgresql_where=sa.text("status = 'running'"),
        ),
    )


class Result(Base):
    """What became of one image; written once, never changed."""

    __tablename__ = "results"

    image_id: orm.Mapped[int] = orm.mapped_column(
        RowId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    label: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    confidence: orm.Mapped[float | None]
    scores: orm.Mapped[dict[str, Any] | None]
    error_code: orm.Mapped[str | None] = orm.mapped_column(sa.String(50))
    error_detail: orm.Mapped[str | None] = orm.mapped_column(sa.String(1000))
    model: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    model_version: orm.Mapped[str | None] = orm.mapped_column(sa.String(100))
    model_digest: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    cached: orm.Mapped[bool]
    timings: orm.Mapped[dict[str, Any]]
    finished_at: orm.Mapped[datetime]

    __table_args__ = (
        sa.Index(None, "job_id", "image_id"),
        sa.Index(None, "label", "image_id"),
        sa.Index(None, "finished_at"),
    )


class Worker(Base):
    """A worker process: when it last showed life, and when it last got something done."""

    __tablename__ = "workers"

    id: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    model: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    model_version: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    model_digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    device: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    images: orm.Mapped[int]
    started_at: orm.Mapped[datetime]
    seen_at: orm.Mapped[datetime]
    progress_at: orm.Mapped[datetime | None]
