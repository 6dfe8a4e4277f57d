"""Errors that Sortbelt raises on purpose; each arrow has the class of those that occur there.

    settings   ──BadSetting───────────▶ processes
    request    ──ClientError──────────▶ submission    for the caller to fix (4xx)
    bytes      ──ImageFailed──────────▶ image         this image fails; its neighbours go on
    submission ──TemporarilyRejected──▶ queue         valid, but not now (429, 503)
    submission ──ServiceUnavailable───▶ rows, blobs   for the operator to fix (503)

A `code` is stable and meant for machines; the text is meant for people.
"""

import difflib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Self

MAX_SHOWN_VALUES, MAX_SHOWN_CHARACTERS = 20, 100


class SortbeltError(Exception):
    """An error raised on purpose."""

    code = "error"

    @property
    def detail(self) -> str:
        """One sentence for people: what is wrong, and what to do."""
        return str(self) or (self.__doc__ or "").strip()


class BadSetting(SortbeltError):
    """A setting is wrong; correct the variable that the message names."""

    code = "bad_setting"


class Fault(NamedTuple):
    """One of several faults of a request."""

    pointer: str
    """A JSON pointer to the wrong value, as a URI fragment, such as `#/images/0/sha256`."""
    code: str
    detail: str
    image: str | None = None
    """The name of the image that it is about, if any."""


class ClientError(SortbeltError):
    """The request cannot be accepted as it is; correct it."""

    code = "bad_request"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        super().__init__(*filter(None, [detail]))
        self.faults = tuple(faults)


class BadParameter(ClientError):
    """A parameter, field or header is malformed, missing or unknown; correct the one that the message names."""

    code = "bad_parameter"


class UnknownValue(BadParameter):
    """A filter has a value that does not exist; choose one that the message names."""

    @classmethod
    def of(cls, parameter: str, noun: str, value: str, known: Iterable[str]) -> "UnknownValue":
        """Create the error for a parameter; `noun` is what its values are called, `known` are those that exist."""
        names = sorted(known, key=lambda name: (name not in difflib.get_close_matches(value, [name]), name))
        shown = ", ".join(name[:MAX_SHOWN_CHARACTERS] for name in names[:MAX_SHOWN_VALUES])
        more = ", …" if len(names) > MAX_SHOWN_VALUES else ""
        existing = f"there are: {shown}{more}" if names else "there are none yet"
        detail = f"There is no {noun} {value[:MAX_SHOWN_CHARACTERS]!r}; {existing}."
        return cls(detail, [Fault(f"#/{parameter}", "unknown_value", detail)])


class NoImages(ClientError):
    """The request contains no images; send at least one part named `images`."""

    code = "no_images"


class TooManyImages(ClientError):
    """The request contains too many images; send fewer at a time."""

    code = "too_many_images"


class DuplicateName(ClientError):
    """Two images of the request have the same name; a name is unique in its job, so rename one."""

    code = "duplicate_name"


class NotFound(ClientError):
    """There is nothing of this name or id that this key may see; list what there is."""

    code = "not_found"
    noun, list_path, scope = "resource", "/docs", ""

    @classmethod
    def of(cls, name: object) -> Self:
        """Create the error for a name or an id: the same whether it does not exist, or only other keys may see it."""
        shown = str(name)[:MAX_SHOWN_CHARACTERS]
        return cls(f"There is no {cls.noun} {shown!r}{cls.scope}; GET {cls.list_path} lists them.")


class OwnedNotFound(NotFound):
    """There is nothing of this id that this key may see; list what there is."""

    scope = " that this key may see"


class UnknownModel(ClientError):
    """There is no such model; GET /v1/models lists them."""

    code = "unknown_model"


class BundleRejected(ClientError):
    """The upload is not a valid bundle; make one with `python -m model.train`."""

    code = "bad_bundle"


class ModelNotFound(NotFound):
    """There is no such model version; add it first."""

    code = "model_not_found"
    noun, list_path = "model", "/v1/models"


class VersionConflict(ClientError):
    """This version exists with other content; use another version number."""

    code = "version_taken"


class NoPreviousVersion(ClientError):
    """There is no version to roll back to, because none was live before; promote another."""

    code = "nothing_before"


class VersionNotTested(ClientError):
    """No worker has tested this version yet; start one, or retry when it has."""

    code = "not_tested"


class VersionUnusable(ClientError):
    """The version did not pass its test in a worker; add a repaired bundle as another version."""

    code = "test_failed"


class VersionIsLive(ClientError):
    """This version is live and cannot be its own shadow; choose another."""

    code = "is_live"


class IdempotencyMismatch(ClientError):
    """This Idempotency-Key was used before with other content; use a new key for a new job."""

    code = "idempotency_mismatch"


class JobNotFound(OwnedNotFound):
    """There is no such job that this key may see; GET /v1/jobs lists them."""

    code = "job_not_found"
    noun, list_path = "job", "/v1/jobs"


class JobSealed(ClientError):
    """The job is sealed and accepts no more images; create another job."""

    code = "job_sealed"

    @classmethod
    def of(cls, job_id: str) -> "JobSealed":
        """Create the error for a job."""
        return cls(f"Job {job_id} is sealed and accepts no more images; create another job.")


class JobPurged(ClientError):
    """The job was deleted, or its results were removed by retention; submit the images again to classify them."""

    code = "job_purged"

    @classmethod
    def with_totals(cls, images: int, size_bytes: int, purged_at: datetime) -> "JobPurged":
        """Create the error with what was removed, and when."""
        purged_at_text = f"{purged_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return cls(
            f"The job is finished; its {images:,} images ({size_bytes:,} bytes) and their results were removed at "
            f"{purged_at_text}. Submit the images again to classify them."
        )


class JobNotFinished(ClientError):
    """The job has not ended; wait until it has, then retry."""

    code = "job_not_over"


class NothingToRetry(ClientError):
    """There is nothing to retry: each image has a label, or was rejected for the reason in its result."""

    code = "nothing_to_retry"


class UnknownBlob(ClientError):
    """You have not uploaded these bytes yet; upload the image itself."""

    code = "unknown_blob"

    @classmethod
    def of_images(cls, references: Sequence[tuple[str, str]]) -> "UnknownBlob":
        """Create the error of images whose bytes are not stored: of each the pointer to its digest, and its name."""
        faults = [
            Fault(pointer, cls.code, "You have not uploaded these bytes yet.", name) for pointer, name in references
        ]
        others = f" and of {len(faults) - 1:,} more" if len(faults) > 1 else ""
        return cls(f"You have not uploaded the bytes of {faults[0].image!r}{others} yet; upload the images.", faults)


class UnknownSource(ClientError):
    """The server has no such source; GET /v1/sources lists them."""

    code = "unknown_source"


class ScanConflict(ClientError):
    """The job is already filled from another location; one job has one import."""

    code = "scan_taken"


class ResultNotFound(OwnedNotFound):
    """There is no such result that this key may see; GET /v1/results lists them."""

    code = "result_not_found"
    noun, list_path = "result", "/v1/results"


class NothingToReview(ClientError):
    """There is nothing to review: the image has no label; retry it, or submit another."""

    code = "nothing_to_review"


class UnknownLabel(ClientError):
    """The model has no such label; choose one of the scores of the result, or the verdict `none_of_these`."""

    code = "unknown_label"


class ImageNotFound(OwnedNotFound):
    """There is no such image that this key may see; GET /v1/results lists them."""

    code = "image_not_found"
    noun, list_path = "image", "/v1/results"


class ImageRunning(ClientError):
    """The image is being classified; repeat the request when it has a result."""

    code = "image_running"


class ImageGone(ClientError):
    """The image was deleted, or removed by retention; upload it again to see it."""

    code = "image_gone"


class NoThumbnail(ClientError):
    """There is no thumbnail of this image, because it cannot be decoded; submit another file."""

    code = "no_thumbnail"


class DeliveryNotFound(OwnedNotFound):
    """There is no such webhook delivery that this key may see; GET /v1/webhooks/deliveries lists them."""

    code = "delivery_not_found"
    noun, list_path = "webhook delivery", "/v1/webhooks/deliveries"


class KeyNameTaken(ClientError):
    """Another valid key has this name; choose another name, or revoke that key."""

    code = "key_name_taken"


class KeyNotFound(NotFound):
    """There is no such key; GET /v1/keys lists them."""

    code = "key_not_found"
    noun, list_path = "key", "/v1/keys"


class KeyExpired(ClientError):
    """This key has expired; ask an admin for a new one."""

    code = "key_expired"


class TemporarilyRejected(SortbeltError):
    """The request cannot be accepted now; retry later."""

    code = "later"

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """After how many seconds a retry may succeed."""


class QueueFull(TemporarilyRejected):
    """The queue is full; retry later."""

    code = "queue_full"


class StoreFull(TemporarilyRejected):
    """The disk for images is nearly full, and this key stores more than its equal share; delete jobs of this key."""

    code = "store_full"


class RateLimited(TemporarilyRejected):
    """The key has used up its rate limit; retry later."""

    code = "rate_limited"


class QuotaExceeded(TemporarilyRejected):
    """The key has as many open images as it may; retry when some are finished."""

    code = "quota_exceeded"


IMAGE_ERRORS = {
    "empty": "The file is empty.",
    "too_large": "The image has more bytes or pixels than this server accepts, or than it can decode.",
    "unsupported_format": "The file is not an image of a supported format.",
    "undecodable": "The image is damaged.",
    "truncated": "The file has less than 90 % of the image data; send the complete file.",
    "crashed_decoder": "Decoding the image crashed the decoder twice.",
    "timed_out": "Decoding exceeded the time limit twice.",
    "cpu_time_exceeded": "Decoding exceeded the CPU time limit twice.",
    "blob_missing": "The bytes of the image are no longer in the blob store, or cannot be read from their source.",
    "blob_corrupt": "The bytes in the blob store are not those that were uploaded.",
    "fetch_failed": "The bytes of the image could not be fetched from its URL.",
    "bad_output": "The network did not return a score for each label.",
    "worker_lost": "Workers were lost while they held the image, at every attempt.",
    "cancelled": "The job was cancelled before a worker claimed the image.",
    "expired": "The job's deadline passed before a worker claimed the image.",
}
"""Why an image has no label: the error codes of results."""


class ImageFailed(SortbeltError):
    """An image that cannot be classified, with the code of the reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ServiceUnavailable(SortbeltError):
    """A service that Sortbelt needs does not answer."""

    code = "unavailable"
    is_detail_public = False
    """Whether callers may see the detail: in most it may name hosts and files, and they see the line above."""


class DatabaseUnavailable(ServiceUnavailable):
    """The database does not answer."""

    code = "database_unavailable"


class BlobsUnavailable(ServiceUnavailable):
    """The blob store does not answer, or is full."""

    code = "blobs_unavailable"


class SourceUnavailable(ServiceUnavailable):
    """An image source does not answer."""

    code = "source_unavailable"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"The source {source} does not answer; it is retried.")
        self.source = source
        self.reason = reason
        """For logs only: it may reveal the source's address."""


class SourceReadError(SourceUnavailable):
    """An image source answers, and does not give one image: its disk has an error there, or it denies access."""


class SourceAccessDenied(SourceReadError):
    """An image source answers, and denies access."""

    @property
    def detail(self) -> str:
        """One sentence for people."""
        return f"The source {self.source} denies access to the image; check its permissions."


class BlobMissing(SortbeltError):
    """The bytes of the image are not in the blob store any more; upload it again."""

    code = "blob_missing"


class VersionBeingTested(ServiceUnavailable):
    """A worker is testing this version."""

    code = "being_tested"
    is_detail_public = True


class SourcePathNotFound(SortbeltError):
    """The source does not contain the path to import from; correct the prefix."""

    code = "not_there"
