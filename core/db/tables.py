"""The tables."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

REVISION = "1025"
"""The newest migration: what these tables match. A program works on this revision and on later ones with the same first
digit. A migration that older programs cannot work with takes the next digit; they then refuse to start."""

NOT_PURGED = "purged_at IS NULL"
PURGED = "purged_at IS NOT NULL"
CURRENT_REVIEW = "replaced_at IS NULL"
DELETING = "deleted_by IS NOT NULL AND purge_completed_at IS NULL"
WORKER_TTL_SECONDS = 15.0
"""Workers send a heartbeat every few seconds; after so long without one, a worker is considered gone."""


class Timestamp(sa.types.TypeDecorator[datetime]):
    """A timestamp, always in UTC, on databases with and without time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC; without the zone where the database has none."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy names the arguments)
        """Convert to UTC, with the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Text as in the API; 16 bytes where the database has the type.
Uuid = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
# SQLite generates ids only if the type of the key is exactly INTEGER.
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """Create an index over the rows that match a condition."""
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


class Base(orm.DeclarativeBase):
    """The declarative base; it names every constraint, so that migrations can refer to them."""

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
    """An API key. The key itself is never stored."""

    __tablename__ = "api_keys"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    role: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    prefix: orm.Mapped[str] = orm.mapped_column(sa.String(16), unique=True)
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    created_at: orm.Mapped[datetime]
    expires_at: orm.Mapped[datetime | None]
    revoked_at: orm.Mapped[datetime | None]
    __table_args__ = (_partial_index("ix_api_keys_live_name", "name", where="revoked_at IS NULL", unique=True),)

    images_per_minute: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    """A quota; here and in the next four columns, None is the default of the settings, and 0 means no limit."""
    bytes_per_minute: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    open_images: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    """How many of its images may be without a result at a time."""
    open_bytes: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    work_seconds_per_minute: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    """How many seconds decoding and classifying its images may take per minute."""
    image_tokens: orm.Mapped[float | None]
    """Remaining tokens at `tokens_updated_at`; below zero after an oversized submission. None: a full bucket."""
    byte_tokens: orm.Mapped[float | None]
    work_tokens: orm.Mapped[float | None]
    tokens_updated_at: orm.Mapped[datetime | None]


class Job(Base):
    """A submitted job. Its images that are neither finished nor running are queued."""

    __tablename__ = "jobs"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    api_key_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id", name="fk_jobs_owner_api_keys"))
    name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    """For people, such as the name of the submitted folder; it need not be unique."""
    model: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    priority: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    meta: orm.Mapped[dict[str, Any]] = orm.mapped_column("metadata")
    idempotency_key: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    fingerprint: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))

    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, server_default="0")
    """Of all its images together."""
    total: orm.Mapped[int]
    done: orm.Mapped[int]
    failed: orm.Mapped[int]
    cancelled: orm.Mapped[int]
    expired: orm.Mapped[int]

    created_at: orm.Mapped[datetime]
    sealed_at: orm.Mapped[datetime | None]
    last_fed_at: orm.Mapped[datetime | None]
    """When images were last added to it after its creation."""
    started_at: orm.Mapped[datetime | None]
    cancelled_at: orm.Mapped[datetime | None]
    finished_at: orm.Mapped[datetime | None]
    expires_at: orm.Mapped[datetime | None]
    purged_at: orm.Mapped[datetime | None]
    """Since when no caller sees it any more."""
    purge_completed_at: orm.Mapped[datetime | None]
    """When the last of its images and deliveries was deleted after that."""
    deleted_by: orm.Mapped[str | None] = orm.mapped_column(Uuid)
    """The key that deleted it; None if it was not deleted, or purged because of its age."""
    retry_of: orm.Mapped[str | None] = orm.mapped_column(Uuid)

    webhook_url: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    """Where a webhook goes when the job has finished."""
    public_base_url: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    """The server's URL as the caller knows it: the links in the webhook begin with it."""
    traceparent: orm.Mapped[str | None] = orm.mapped_column(sa.String(55))
    """The trace of the submission; None if it was not traced."""

    __table_args__ = (
        sa.UniqueConstraint("api_key_id", "idempotency_key", name="uq_jobs_owner_idempotency_key"),
        sa.Index(None, "retry_of", unique=True),
        # Newest first: all jobs, those of a key, and those of a model.
        _partial_index("ix_jobs_newest", "created_at", "id", where=NOT_PURGED),
        _partial_index("ix_jobs_newest_of", "api_key_id", "created_at", "id", where=NOT_PURGED),
        _partial_index("ix_jobs_newest_for", "model", "created_at", "id", where=NOT_PURGED),
        # Purged jobs, the latest first: of all keys, and of one.
        _partial_index("ix_jobs_purged", "purged_at", "id", where=PURGED),
        _partial_index("ix_jobs_purged_of", "api_key_id", "purged_at", "id", where=PURGED),
        # Deleted jobs that still have images.
        _partial_index("ix_jobs_deleting", "purged_at", where=DELETING),
        # Unfinished jobs, in the order in which their images are claimed; and those with a deadline.
        _partial_index("ix_jobs_open", "priority", "id", where="finished_at IS NULL"),
        _partial_index("ix_jobs_open_of", "api_key_id", where="finished_at IS NULL"),
        _partial_index("ix_jobs_unsealed", "api_key_id", where="sealed_at IS NULL"),
        _partial_index("ix_jobs_full", "finished_at", where="purge_completed_at IS NULL"),
        _partial_index("ix_jobs_expiring", "expires_at", where="finished_at IS NULL AND expires_at IS NOT NULL"),
        sa.CheckConstraint("done + failed + cancelled + expired <= total", name="counts"),
    )


class Image(Base):
    """One image of a job, and the worker that holds it."""

    __tablename__ = "images"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    api_key_id: orm.Mapped[str | None] = orm.mapped_column(Uuid)
    """The key of its job: workers claim images of all keys in turn. None for an image that a program of a release
    before 0.3 has inserted. Not a foreign key: PostgreSQL would look it up for each image."""
    name: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    custom_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    """The caller's own identifier, if given; it need not be unique."""
    sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    """Of the bytes; 64 zeros for an image that was never read because it is too large."""
    bytes: orm.Mapped[int]
    source: orm.Mapped[str | None] = orm.mapped_column(sa.String(100))
    """The name of the source that holds the bytes; None for bytes in the blob store; `url:` while they are fetched."""
    location: orm.Mapped[str | None] = orm.mapped_column(sa.String(1024))
    """The path in that source."""
    model_name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    priority: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    attempt: orm.Mapped[int]
    worker: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    claimed_at: orm.Mapped[datetime | None]
    lease_until: orm.Mapped[datetime | None]

    __table_args__ = (
        sa.UniqueConstraint("job_id", "name"),
        # By their bytes: an upload of any key, or of one, is found by one probe, however many have the same bytes.
        sa.Index("ix_images_digest", "sha256", "source", "api_key_id", "id"),
        _partial_index("ix_images_cached", "sha256", "model_name", "api_key_id", "id", where="status = 'done'"),
        _partial_index("ix_images_custom_id", "custom_id", "id", where="custom_id IS NOT NULL"),
        # Queued images of each model, in the order in which they are claimed: small however large the table.
        _partial_index("ix_images_queued", "model_name", "priority", "id", where="status = 'queued'"),
        # The same of each key, so that the keys can take turns.
        _partial_index("ix_images_queued_of", "model_name", "api_key_id", "priority", "id", where="status = 'queued'"),
        _partial_index("ix_images_running", "job_id", where="status = 'running'"),
        # An id is never given again: a worker may still hold a deleted image, and it has a receipt.
        {"sqlite_autoincrement": True},
    )


class Result(Base):
    """The result of one image; written once, never changed."""

    __tablename__ = "results"

    image_id: orm.Mapped[int] = orm.mapped_column(
        RowId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    label: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    confidence: orm.Mapped[float | None]
    scores: orm.Mapped[dict[str, Any] | None]
    familiarity: orm.Mapped[float | None]
    """The share of held-out training photos that are less familiar to the model; None if it has no reference."""
    error_code: orm.Mapped[str | None] = orm.mapped_column(sa.String(50))
    error_detail: orm.Mapped[str | None] = orm.mapped_column(sa.String(1000))
    model_name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    model_version: orm.Mapped[str | None] = orm.mapped_column(sa.String(100))
    model_digest: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    cached: orm.Mapped[bool]
    timings: orm.Mapped[dict[str, Any]]
    finished_at: orm.Mapped[datetime]
    environment_id: orm.Mapped[int | None]
    """The environment it was made in; None if no worker has seen the image. Not a foreign key: PostgreSQL would look it
    up, and lock it, for each result; and environments are never deleted."""

    __table_args__ = (
        sa.Index(None, "job_id", "image_id"),
        sa.Index(None, "label", "image_id"),
        sa.Index("ix_results_model_image_id", "model_name", "image_id"),
        sa.Index(None, "model_version", "image_id"),
        sa.Index(None, "finished_at"),
        # The least confident first, the least familiar first; and errors by their code.
        _partial_index("ix_results_confidence", "confidence", "image_id", where="confidence IS NOT NULL"),
        _partial_index("ix_results_familiarity", "familiarity", "image_id", where="familiarity IS NOT NULL"),
        _partial_index("ix_results_error_code", "error_code", "image_id", where="error_code IS NOT NULL"),
    )


class Review(Base):
    """The verdict of a person on a result. Rows are only added; the one with no `replaced_at` counts."""

    __tablename__ = "reviews"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    image_id: orm.Mapped[int] = orm.mapped_column(RowId, sa.ForeignKey("images.id", ondelete="CASCADE"))
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid)
    model_name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    """As in the result, which never changes; so is the next."""
    model_version: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    verdict: orm.Mapped[str] = orm.mapped_column(sa.String(20))
    label: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    """None unless the verdict is `label`."""
    note: orm.Mapped[str | None] = orm.mapped_column(sa.String(1000))
    reviewed_by: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))
    reviewed_at: orm.Mapped[datetime]
    strategy: orm.Mapped[str | None] = orm.mapped_column(sa.String(20))
    """How the queue chose the image; None if a person did."""
    draw_probability: orm.Mapped[float | None]
    """If the image was drawn at random: the probability of each image in that draw. None for every other image."""
    replaced_at: orm.Mapped[datetime | None]
    """When another review replaced it, or it was withdrawn."""

    __table_args__ = (
        sa.Index(None, "image_id", "id"),
        _partial_index("ix_reviews_current_image_id", "image_id", where=CURRENT_REVIEW, unique=True),
        _partial_index("ix_reviews_current", "model_name", "model_version", "id", where=CURRENT_REVIEW),
    )


class ReviewLease(Base):
    """An image that a person has before them to review; until the lease ends, no other key gets it."""

    __tablename__ = "review_leases"

    image_id: orm.Mapped[int] = orm.mapped_column(
        RowId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    leased_by: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"), index=True)
    lease_until: orm.Mapped[datetime] = orm.mapped_column(index=True)
    model_name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    model_version: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    strategy: orm.Mapped[str] = orm.mapped_column(sa.String(20))
    draw_probability: orm.Mapped[float | None]


class ImageDeletion(Base):
    """The receipt of an image that was deleted from its job, with its result and its bytes."""

    __tablename__ = "image_deletions"

    image_id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True, autoincrement=False)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    bytes: orm.Mapped[int]
    deleted_at: orm.Mapped[datetime]
    deleted_by: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))


class Environment(Base):
    """The device and library versions that a result may depend on, as workers report them at start."""

    __tablename__ = "environments"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    device: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    precision: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    torch: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    decoder: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    sortbelt: orm.Mapped[str] = orm.mapped_column(sa.String(200))

    __table_args__ = (sa.UniqueConstraint("device", "precision", "torch", "decoder", "sortbelt"),)


class Worker(Base):
    """A worker process: its last heartbeat, and when it last finished something or had nothing to do."""

    __tablename__ = "workers"

    id: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    loaded_models: orm.Mapped[dict[str, Any]]
    """The version of each model that it serves: {name: version}."""
    rejected_models: orm.Mapped[dict[str, Any]]
    """The versions that it should serve and cannot, with the reason: {name@version: sentence}."""
    device: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    images: orm.Mapped[int]
    started_at: orm.Mapped[datetime]
    heartbeat_at: orm.Mapped[datetime]
    last_progress_at: orm.Mapped[datetime | None]
    batch_sizes: orm.Mapped[dict[str, Any] | None]
    """The maximum size of its next batch of each model: {name: size}."""
    loading_model_id: orm.Mapped[int | None] = orm.mapped_column(RowId)
    """The version that it is testing or loading at the moment: if the worker dies now, the version is to blame."""
    pid: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    pid_namespace: orm.Mapped[str | None] = orm.mapped_column(sa.String(500))
    """Workers with the same one see each other's processes; None: unknown."""


class Counter(Base):
    """A sharded counter: several rows, so that concurrent transactions seldom wait for each other."""

    __tablename__ = "counters"
    __table_args__ = (sa.PrimaryKeyConstraint("name", "labels", "shard", name="pk_tallies"),)

    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    labels: orm.Mapped[str] = orm.mapped_column(sa.String(500))
    """A JSON list of the values of its labels."""
    shard: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    value: orm.Mapped[float]


class Model(Base):
    """A version of a model. Its files are in the blob store, under their SHA-256."""

    __tablename__ = "models"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    version: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    """Of its weights."""
    manifest: orm.Mapped[dict[str, Any]]
    """The content of its `model.json`: labels, preprocessing, metrics, recipe …"""
    files: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(Json)
    """{file name: SHA-256}; None for a version that was never uploaded, but is bundled with the workers."""
    stage: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    share: orm.Mapped[float | None]
    """The share of live images that a shadow classifies too."""
    created_at: orm.Mapped[datetime]
    created_by: orm.Mapped[str | None] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))
    tested_at: orm.Mapped[datetime | None]
    """When a worker has loaded it and run its self-test, or has died of it; None for a version not tested yet."""
    test_error: orm.Mapped[str | None] = orm.mapped_column(sa.String(1000))
    """Why it did not pass; None if it did."""

    __table_args__ = (
        sa.UniqueConstraint("name", "version"),
        _partial_index("ix_models_live", "name", where="stage = 'live'", unique=True),
    )


class Installation(Base):
    """The id of this database, in its only row: blob stores are marked with it."""

    __tablename__ = "installations"

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)


class Promotion(Base):
    """A version became the live one. The newest promotion of a name that was not reverted is live."""

    __tablename__ = "promotions"

    id: orm.Mapped[int] = orm.mapped_column(RowId, primary_key=True)
    model_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("models.id"), index=True)
    promoted_at: orm.Mapped[datetime]
    promoted_by: orm.Mapped[str | None] = orm.mapped_column(Uuid, sa.ForeignKey("api_keys.id"))
    """None for a worker, which promotes its bundled model while no other of that name was promoted."""
    reverted_at: orm.Mapped[datetime | None]
    reverted_by: orm.Mapped[str | None] = orm.mapped_column(
        Uuid, sa.ForeignKey("api_keys.id", name="fk_promotions_undone_by_api_keys")
    )


class ShadowResult(Base):
    """A shadow's result for one image that the live model has classified."""

    __tablename__ = "shadow_results"

    model_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("models.id"), primary_key=True, autoincrement=False)
    image_id: orm.Mapped[int] = orm.mapped_column(
        RowId, sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )
    label: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    confidence: orm.Mapped[float | None]
    scores: orm.Mapped[dict[str, Any] | None]
    familiarity: orm.Mapped[float | None]
    error_code: orm.Mapped[str | None] = orm.mapped_column(sa.String(50))
    timings: orm.Mapped[dict[str, Any]]
    classified_at: orm.Mapped[datetime]


class WebhookDelivery(Base):
    """A webhook to be sent for a finished job. Its id is the webhook-id, however often it is sent."""

    __tablename__ = "webhook_deliveries"

    id: orm.Mapped[str] = orm.mapped_column(Uuid)
    job_id: orm.Mapped[str] = orm.mapped_column(
        Uuid, sa.ForeignKey("jobs.id", name="fk_deliveries_job_id_jobs", ondelete="CASCADE")
    )
    api_key_id: orm.Mapped[str] = orm.mapped_column(
        Uuid, sa.ForeignKey("api_keys.id", name="fk_deliveries_owner_api_keys")
    )
    event: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    url: orm.Mapped[str] = orm.mapped_column(sa.Text)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    attempts: orm.Mapped[int]
    next_attempt_at: orm.Mapped[datetime | None]
    """When the next attempt is due; None once it has ended, and while its job was deleted and still has images."""
    lease_until: orm.Mapped[datetime | None]
    """Until when a dispatcher holds it; it is also the fencing token: the holder of another lease writes nothing."""
    attempted_at: orm.Mapped[datetime | None]
    response_status: orm.Mapped[int | None]
    """The receiver's last status; None if it did not answer."""
    error: orm.Mapped[str | None] = orm.mapped_column(sa.String(500))
    """Why the last attempt failed; None if it did not."""
    created_at: orm.Mapped[datetime]
    ended_at: orm.Mapped[datetime | None]

    __table_args__ = (
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("job_id", "event", name="uq_deliveries_job_id_event"),
        sa.Index("ix_deliveries_owner_id", "api_key_id", "id"),
        # Pending deliveries by due time: small however long the log.
        _partial_index("ix_deliveries_pending", "next_attempt_at", where="status = 'pending'"),
    )


class Scan(Base):
    """An import from a source into a job, and its progress; a job has one at most."""

    __tablename__ = "scans"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(Uuid, sa.ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    source: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    prefix: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    include: orm.Mapped[list[str]] = orm.mapped_column(Json)
    exclude: orm.Mapped[list[str]] = orm.mapped_column(Json)
    seal_when_done: orm.Mapped[bool]
    """Whether the job is sealed when the scan ends, with any status."""
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    cursor: orm.Mapped[str | None] = orm.mapped_column(sa.String(1024))
    """The path up to which all files were seen."""
    found: orm.Mapped[int]
    """The number of images, all of which are in the job."""
    skipped: orm.Mapped[int]
    """The number of files that were skipped."""
    skipped_by_reason: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(Json)
    """The same by reason; here and in the next column, None stands for none."""
    left_out: orm.Mapped[list[dict[str, str]] | None] = orm.mapped_column(Json)
    """The first of those that may be images, or contain some: {"name", "reason"}."""
    consecutive_failures: orm.Mapped[int]
    """The number of failures since the last page that was stored."""
    next_attempt_at: orm.Mapped[datetime | None]
    """When it is due; None once it has ended."""
    lease_until: orm.Mapped[datetime | None]
    """Until when an importer holds it; it is also the fencing token."""
    error: orm.Mapped[str | None] = orm.mapped_column(sa.String(500))
    """Why it is delayed, or why it has failed."""
    created_at: orm.Mapped[datetime]
    ended_at: orm.Mapped[datetime | None]

    __table_args__ = (
        # Pending scans by due time: small however many there were.
        _partial_index("ix_scans_pending", "next_attempt_at", where="status = 'pending'"),
    )


class UrlFetch(Base):
    """The URL of an image, and the attempts to fetch its bytes; the image is queued, and no worker claims it yet."""

    __tablename__ = "url_fetches"

    id: orm.Mapped[str] = orm.mapped_column(Uuid, primary_key=True)
    image_id: orm.Mapped[int] = orm.mapped_column(RowId, sa.ForeignKey("images.id", ondelete="CASCADE"), unique=True)
    url: orm.Mapped[str] = orm.mapped_column(sa.Text)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(10))
    """`pending`, `delivered` or `failed`."""
    attempts: orm.Mapped[int]
    next_attempt_at: orm.Mapped[datetime | None]
    """When the next attempt is due; None once it has ended."""
    lease_until: orm.Mapped[datetime | None]
    """Until when a dispatcher holds it; it is also the fencing token."""
    ended_at: orm.Mapped[datetime | None]
    api_key_id: orm.Mapped[str | None] = orm.mapped_column(Uuid)
    """The key of its job: each has a share. None until the first claim, if a program of an older release inserted it.
    Not a foreign key, as in `images`."""

    __table_args__ = (
        # Pending fetches by due time: small however many there were.
        _partial_index("ix_url_fetches_pending", "next_attempt_at", where="status = 'pending'"),
        # The same of each key, so that a key is found however many fetches another has.
        _partial_index("ix_url_fetches_pending_of", "api_key_id", "next_attempt_at", where="status = 'pending'"),
    )


class WebhookSecret(Base):
    """The secret that signs the webhooks of one key's jobs, and during a rotation the previous one."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (sa.PrimaryKeyConstraint("api_key_id", name="pk_signing_secrets"),)

    api_key_id: orm.Mapped[str] = orm.mapped_column(
        Uuid, sa.ForeignKey("api_keys.id", name="fk_signing_secrets_owner_api_keys")
    )
    secret: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    created_at: orm.Mapped[datetime]
    previous_secret: orm.Mapped[str | None] = orm.mapped_column(sa.String(100))
    previous_expires_at: orm.Mapped[datetime | None]
