"""The tables, and what each status means."""

import enum
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

REVISION = "0011"
"""The newest migration: what these tables are like. A program works on this revision and on later ones of the same
first digit; a migration that older programs cannot live with takes the next digit, and they refuse to work."""

SEEN = "purged_at IS NULL"
PURGED = "purged_at IS NOT NULL"
LIFE_SECONDS = 15.0
"""A worker shows life every few seconds; after so long without, it is taken for gone."""


class Told(enum.StrEnum):
    """A text whose meaning stands beside it, for `/openapi.json` and `/docs` too."""

    _value_: str
    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """A member: its value, and what that means."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """What each value means."""
        return {one.value: one.meaning for one in cls}


class Status(Told):
    """What has become of an image; the four last are final and have a row in `results`."""

    QUEUED = "queued", "waits for a worker"
    RUNNING = "running", "a worker holds it"  # until `lease_until`; then anyone may queue it again
    DONE = "done", "has a label"
    FAILED = "failed", "has an error, whose code says why"
    CANCELLED = "cancelled", "its owner called it off before a worker took it"
    EXPIRED = "expired", "its deadline passed before a worker took it"


class JobStatus(Told):
    """What has become of a job: the four last are final, and none of them says how each single picture fared."""

    QUEUED = "queued", "none of its pictures is with a worker or has a result yet; an open job may have none at all"
    RUNNING = "running", "some pictures are with a worker or have a result; an open job stays so until it is sealed"
    DONE = "done", "it has ended, and at least one picture has a label, or it had none: `counts` tells of the others"
    FAILED = "failed", "it has ended, and no picture has a label but some an error; or its scan of a source has failed"
    CANCELLED = "cancelled", "it was called off, and has ended; pictures that had a result by then keep it"
    EXPIRED = "expired", "it has ended, and all of its pictures waited for a worker until its deadline had passed"


class Priority(enum.IntEnum):
    """Who is served first; the smaller number."""

    INTERACTIVE = 0
    BULK = 1


class Stage(Told):
    """What a version of a model is for."""

    CANDIDATE = "candidate", "taken in, and never served"
    LIVE = "live", "answers every picture of its model's name; there is one at most"
    SHADOW = "shadow", "judges a share of them beside the live one, without a say"
    RETIRED = "retired", "was live once"


class Role(Told):
    """What a key may do; each role may do what the ones before it may, but whose jobs it sees is its own affair."""

    READ = "read", "sees everybody's jobs and results, and changes nothing"
    SUBMIT = "submit", "orders jobs, and sees its own"
    ADMIN = "admin", "sees everybody's jobs, and manages keys and models"


class DeliveryStatus(Told):
    """What has become of a webhook's delivery."""

    PENDING = "pending", "waits for its next attempt, or is being sent"
    DELIVERED = "delivered", "the receiver has answered with 2xx"
    FAILED = "failed", "the last attempt was in vain too"
    DISABLED = "disabled", "the receiver has answered 410: it wants no more of it"


class ScanStatus(Told):
    """What has become of a scan, which fills a job from a source."""

    PENDING = "pending", "waits for its turn, or is under way"
    DONE = "done", "has seen everything"
    FAILED = "failed", "cannot go on; what it had found is in the job"
    CANCELLED = "cancelled", "the job was called off, or is past its deadline"


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


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of those rows only that a condition holds for."""
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


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
    expires_at: orm.Mapped[datetime | None]
    revoked_at: orm.Mapped[datetime | None]

    images_per_minute: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    """What it may hand in; as with the three that follow, None is what the settings say, and 0 is no limit."""
    bytes_per_minute: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    open_images: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    """How many of its pictures may be without a result at a time."""
    open_bytes: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    images_left: orm.Mapped[float | None]
    """What was left of its minute at `spent_at`; below zero if it took more in one order. None: all of it."""
    bytes_left: orm.Mapped[float | None]
    spent_at: orm.Mapped[datetime | None]


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

    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, server_default="0")
    """Of all its pictures together."""
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
    expires_at: orm.Mapped[datetime | None]
    purged_at: orm.Mapped[datetime | None]
    """Since when nobody sees it any more."""
    emptied_at: orm.Mapped[datetime | None]
    """When the last of its images and deliveries had gone after that."""
    retry_of: orm.Mapped[str | None] = orm.mapped_column(Uuid)

    webhook: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    """The URL that is told when the job has ended."""
    webhook_root: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    """The server's URL as who ordered the job knows it: the links that a webhook tells begin with it."""
    traceparent: orm.Mapped[str | None] = orm.mapped_column(sa.String(55))
    """The trace in which it was ordered; None where nothing was traced."""

    __table_args__ = (
        sa.UniqueConstraint("owner", "idempotency_key"),
        sa.Index(None, "retry_of", unique=True),
        # The newest first: everybody's, somebody's, and those for a model.
        _partial("ix_jobs_newest", "created_at", "id", where=SEEN),
        _partial("ix_jobs_newest_of", "owner", "created_at", "id", where=SEEN),
        _partial("ix_jobs_newest_for", "model", "created_at", "id", where=SEEN),
        # What was purged, the latest first: everybody's, and somebody's.
        _partial("ix_jobs_purged", "purged_at", "id", where=PURGED),
        _partial("ix_jobs_purged_of", "owner", "purged_at", "id", where=PURGED),
        # The jobs that are not over, in the order in which they are served; and those that have a deadline.
        _partial("ix_jobs_open", "priority", "id", where="finished_at IS NULL"),
        _partial("ix_jobs_open_of", "owner", where="finished_at IS NULL"),
        _partial("ix_jobs_full", "finished_at", where="emptied_at IS NULL"),
        _partial("ix_jobs_expiring", "expires_at", where="finished_at IS NULL AND expires_at IS NOT NULL"),
        sa.CheckConstraint("done + failed + cancelled + expired <= total", name="counts"),
    )


class Image(Base):
    """One picture of a job, and who is at work on it."""

    __tablename__ = "images"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    custom_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    """The caller's own identifier of it, if they gave one; it need not be unique."""
    sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    """Of the bytes; of what was never read, since it is too large, 64 zeros."""
    bytes: orm.Mapped[int]
    source: orm.Mapped[str | None] = orm.mapped_column(sa.String(100))
    """The name of the source in which the bytes lie; None for what was sent and lies among the blobs."""
    location: orm.Mapped[str | None] = orm.mapped_column(sa.String(1024))
    """The path in that source."""
    model: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    priority: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    attempt: orm.Mapped[int]
    worker: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    claimed_at: orm.Mapped[datetime | None]
    lease_until: orm.Mapped[datetime | None]

    __table_args__ = (
        sa.UniqueConstraint("job_id", "name"),
        sa.Index(None, "sha256"),
        _partial("ix_images_custom_id", "custom_id", "id", where="custom_id IS NOT NULL"),
        # The open work of each model, in the order in which it is served: small however large the table.
        _partial("ix_images_queued", "model", "priority", "id", where="status = 'queued'"),
        _partial("ix_images_running", "job_id", where="status = 'running'"),
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
    environment_id: orm.Mapped[int | None]
    """In which environment it was made; None where no worker came to see the picture. No foreign key: PostgreSQL would
    look, and lock, for each result; and no environment is ever removed."""

    __table_args__ = (
        sa.Index(None, "job_id", "image_id"),
        sa.Index(None, "label", "image_id"),
        sa.Index(None, "model", "image_id"),
        sa.Index(None, "model_version", "image_id"),
        sa.Index(None, "finished_at"),
        # The least confident first; and what failed, by its code.
        _partial("ix_results_confidence", "confidence", "image_id", where="confidence IS NOT NULL"),
        _partial("ix_results_error_code", "error_code", "image_id", where="error_code IS NOT NULL"),
    )


class Environment(Base):
    """What an answer may depend on besides its picture, its model and its batch; as workers say when they start."""

    __tablename__ = "environments"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    device: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    precision: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    torch: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    decoder: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    sortbelt: orm.Mapped[str] = orm.mapped_column(sa.String(200))

    __table_args__ = (sa.UniqueConstraint("device", "precision", "torch", "decoder", "sortbelt"),)


class Worker(Base):
    """A worker process: when it last showed life, and when it last got something done or had nothing to do."""

    __tablename__ = "workers"

    id: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    serves: orm.Mapped[dict[str, Any]]
    """The version of each model that it answers with: {name: version}."""
    refuses: orm.Mapped[dict[str, Any]]
    """The versions that it should serve and cannot, and why: {name@version: sentence}."""
    device: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    images: orm.Mapped[int]
    started_at: orm.Mapped[datetime]
    seen_at: orm.Mapped[datetime]
    progress_at: orm.Mapped[datetime | None]
    batch_sizes: orm.Mapped[dict[str, Any] | None]
    """How many images its next batch of each model may have: {name: size}."""


class Tally(Base):
    """How often something has happened; in several rows, so that those who count seldom wait for each other."""

    __tablename__ = "tallies"

    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), primary_key=True)
    labels: orm.Mapped[str] = orm.mapped_column(sa.String(500), primary_key=True)
    """A JSON list: what exactly has happened."""
    shard: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    value: orm.Mapped[float]


class Model(Base):
    """A version of a model: what it is, and what it is for. Its files lie among the blobs, under their SHA-256."""

    __tablename__ = "models"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    version: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    """Of its weights."""
    manifest: orm.Mapped[dict[str, Any]]
    """What its `model.json` says: labels, preprocessing, metrics, recipe …"""
    files: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(Json)
    """{file name: SHA-256}; None for one that was never uploaded, but comes with the workers."""
    stage: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    share: orm.Mapped[float | None]
    """The share of live pictures that a shadow judges too."""
    created_at: orm.Mapped[datetime]
    created_by: orm.Mapped[str | None] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))

    __table_args__ = (
        sa.UniqueConstraint("name", "version"),
        _partial("ix_models_live", "name", where="stage = 'live'", unique=True),
    )


class Promotion(Base):
    """That a version was made the live one. The newest of a name that was not taken back is live."""

    __tablename__ = "promotions"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    model_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("models.id"), index=True)
    promoted_at: orm.Mapped[datetime]
    promoted_by: orm.Mapped[str | None] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))
    """None for a worker, which does it with the model that it comes with while nobody has promoted another."""
    undone_at: orm.Mapped[datetime | None]
    undone_by: orm.Mapped[str | None] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))


class Shadow(Base):
    """What a shadow said of one image that the live model had answered."""

    __tablename__ = "shadow_results"

    model_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("models.id"), primary_key=True, autoincrement=False)
    image_id: orm.Mapped[int] = orm.mapped_column(
        RowId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )
    label: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    confidence: orm.Mapped[float | None]
    scores: orm.Mapped[dict[str, Any] | None]
    error_code: orm.Mapped[str | None] = orm.mapped_column(sa.String(50))
    timings: orm.Mapped[dict[str, Any]]
    judged_at: orm.Mapped[datetime]


class Delivery(Base):
    """That somebody is to be told of a job's end. Its id is the webhook-id, however often it is sent."""

    __tablename__ = "deliveries"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    owner: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))
    event: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    url: orm.Mapped[str] = orm.mapped_column(sa.Text)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    attempts: orm.Mapped[int]
    next_at: orm.Mapped[datetime | None]
    """When the next attempt is due; None once there is none."""
    lease_until: orm.Mapped[datetime | None]
    """Until when a courier has it in hand; it is also the fence: what another lease came to say is not heard."""
    attempted_at: orm.Mapped[datetime | None]
    response_status: orm.Mapped[int | None]
    """What the receiver last answered; None where it gave no answer."""
    error: orm.Mapped[str | None] = orm.mapped_column(sa.String(500))
    """Why the last attempt was in vain; None if it was not."""
    created_at: orm.Mapped[datetime]
    ended_at: orm.Mapped[datetime | None]

    __table_args__ = (
        sa.UniqueConstraint("job_id", "event"),
        sa.Index(None, "owner", "id"),
        # What is not over, in the order in which it is due: small however long the log.
        _partial("ix_deliveries_pending", "next_at", where="status = 'pending'"),
    )


class Scan(Base):
    """That a job is to be filled from a source, and how far that is; a job has one at most."""

    __tablename__ = "scans"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    source: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    prefix: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    include: orm.Mapped[list[str]] = orm.mapped_column(Json)
    exclude: orm.Mapped[list[str]] = orm.mapped_column(Json)
    seals: orm.Mapped[bool]
    """Whether the job is sealed when the scan ends, however it does."""
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    cursor: orm.Mapped[str | None] = orm.mapped_column(sa.String(1024))
    """The path up to which everything was seen."""
    found: orm.Mapped[int]
    """How many pictures, all of which are in the job."""
    skipped: orm.Mapped[int]
    """How many files were left alone."""
    vain: orm.Mapped[int]
    """How often in a row nothing came of it."""
    next_at: orm.Mapped[datetime | None]
    """When it is due; None once it has ended."""
    lease_until: orm.Mapped[datetime | None]
    """Until when a scanner has it in hand; it is also the fence."""
    error: orm.Mapped[str | None] = orm.mapped_column(sa.String(500))
    """What it waits for, or why it has failed."""
    created_at: orm.Mapped[datetime]
    ended_at: orm.Mapped[datetime | None]

    __table_args__ = (
        # What is not over, in the order in which it is due: small however many there were.
        _partial("ix_scans_pending", "next_at", where="status = 'pending'"),
    )


class SigningSecret(Base):
    """What the webhooks of one key's jobs are signed with; the one before, too, for a while after a change."""

    __tablename__ = "signing_secrets"

    owner: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"), primary_key=True)
    secret: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    created_at: orm.Mapped[datetime]
    previous: orm.Mapped[str | None] = orm.mapped_column(sa.String(100))
    previous_until: orm.Mapped[datetime | None]
