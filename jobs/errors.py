"""Every way in which a job goes wrong, each on the arrow where it happens.

    settings ──BadSetting──▶ processes
    request  ──Refused─────▶ order         the caller's to mend (4xx)
    bytes    ──BadPicture──▶ picture       that one picture's fate; its neighbours go on
    order    ──Later───────▶ queue         fine as it is, but not now (429, 503)
    order    ──Unavailable─▶ rows, blobs   ours to mend, soon (503)

A `code` is stable and meant for machines; the text is meant for the person who reads it.
"""

from datetime import UTC, datetime


class SortbeltError(Exception):
    """Whatever we raise on purpose."""

    code = "error"

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return str(self) or (self.__doc__ or "").strip()


class BadSetting(SortbeltError):
    """A setting is wrong."""

    code = "bad_setting"


class Refused(SortbeltError):
    """The request cannot be taken as it is."""

    code = "bad_request"


class BadParameter(Refused):
    """A parameter, field or header is malformed, missing or not known; the sentence names it."""

    code = "bad_parameter"


class NoImages(Refused):
    """The request holds no pictures: send at least one part named `images`."""

    code = "no_images"


class TooManyImages(Refused):
    """The request holds too many pictures."""

    code = "too_many_images"


class DuplicateName(Refused):
    """Two pictures of the request have one name; a name is unique in its job."""

    code = "duplicate_name"


class UnknownModel(Refused):
    """There is no such model."""

    code = "unknown_model"


class BadBundle(Refused):
    """What was uploaded is no bundle that may be used."""

    code = "bad_bundle"


class ModelNotFound(Refused):
    """There is no such version of a model; add it first."""

    code = "model_not_found"


class VersionTaken(Refused):
    """This version is there already, with other content; give the new one a version of its own."""

    code = "version_taken"


class NothingBefore(Refused):
    """There is no version to go back to: none was live before this one."""

    code = "nothing_before"


class IsLive(Refused):
    """This version is the live one; it cannot be its own shadow."""

    code = "is_live"


class IdempotencyMismatch(Refused):
    """This Idempotency-Key was used before, with other content; use a new key for a new job."""

    code = "idempotency_mismatch"


class JobNotFound(Refused):
    """There is no such job among yours."""

    code = "job_not_found"


class JobSealed(Refused):
    """The job is sealed and takes no more pictures; open another one."""

    code = "job_sealed"


class JobPurged(Refused):
    """The job is over, and its results have been removed as the server's settings say."""

    code = "job_purged"

    @classmethod
    def of(cls, images: int, size: int, moment: datetime) -> "JobPurged":
        """With its receipt: what was removed, and when."""
        when = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return cls(f"The job is over; at {when} its {images:,} pictures ({size:,} bytes) went, with their results.")


class JobNotOver(Refused):
    """The job is not over yet; what fails can be tried again once it is."""

    code = "job_not_over"


class NothingToRetry(Refused):
    """There is nothing to try again: each picture has a label, or was refused for what it is, as its result says."""

    code = "nothing_to_retry"


class UnknownBlob(Refused):
    """You have not sent these bytes yet; send the picture itself."""

    code = "unknown_blob"


class UnknownSource(Refused):
    """The server's list has no such source; GET /v1/sources tells which there are."""

    code = "unknown_source"


class ScanTaken(Refused):
    """The job is filled from another place already; take another job."""

    code = "scan_taken"


class ResultNotFound(Refused):
    """There is no such result among yours."""

    code = "result_not_found"


class ImageNotFound(Refused):
    """There is no such picture among yours."""

    code = "image_not_found"


class PictureGone(Refused):
    """The picture is no longer kept."""

    code = "picture_gone"


class NoThumbnail(Refused):
    """There is no thumbnail of this picture."""

    code = "no_thumbnail"


class DeliveryNotFound(Refused):
    """There is no such delivery among yours."""

    code = "delivery_not_found"


class KeyNotFound(Refused):
    """There is no such key."""

    code = "key_not_found"


class KeyExpired(Refused):
    """This key was valid until a while ago; ask an admin for another."""

    code = "key_expired"


class Later(SortbeltError):
    """Not now; try again a little later."""

    code = "later"

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail)
        self.seconds = seconds
        """After how many it may be worthwhile."""


class QueueFull(Later):
    """So many pictures wait already that no more are taken in."""

    code = "queue_full"


class RateLimited(Later):
    """The key has handed in what it may in a minute."""

    code = "rate_limited"


class QuotaExceeded(Later):
    """As many of the key's pictures are open as may be."""

    code = "quota_exceeded"


PICTURES = {
    "empty": "The file is empty.",
    "too_large": "The picture is larger than this server takes, by its bytes or its pixels, or than it can decode.",
    "unsupported_format": "The file is no picture of a known format.",
    "undecodable": "The picture is damaged.",
    "crashed_decoder": "Decoding the picture crashes the decoder, twice.",
    "timed_out": "The picture takes too long to decode.",
    "blob_missing": "The picture's bytes are gone from the store, or from their source.",
    "blob_corrupt": "The picture's bytes in the store are not those that were sent.",
    "bad_output": "The network did not answer with a score for each label.",
    "worker_lost": "Workers died while they had the picture, again and again.",
    "cancelled": "The job was cancelled before a worker took the picture.",
    "expired": "The job's deadline passed before a worker took the picture.",
}
"""What may be told of a picture that has no label."""


class BadPicture(SortbeltError):
    """A picture that cannot be classified, with a code that says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unavailable(SortbeltError):
    """Something that we need does not answer; try again in a few seconds."""

    code = "unavailable"


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    code = "database_unavailable"


class BlobsUnavailable(Unavailable):
    """The store of pictures does not answer, or is full."""

    code = "blobs_unavailable"


class SourceUnavailable(Unavailable):
    """A source of pictures does not answer."""

    code = "source_unavailable"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"The source {source} does not answer.")
        self.source = source
        self.reason = reason
        """For logs only: it may tell where the source is."""


class SourceRefuses(SourceUnavailable):
    """A source of pictures answers, and says no."""

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return f"The source {self.source} refuses to give the picture."


class BlobMissing(SortbeltError):
    """The picture's bytes are gone from the store."""

    code = "blob_missing"


class NotThere(SortbeltError):
    """A source has not what is to be scanned."""

    code = "not_there"
