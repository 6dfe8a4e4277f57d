"""Every way in which a job goes wrong, each on the arrow where it happens.

    settings ──BadSetting──▶ processes
    request  ──Refused─────▶ order         the caller's to mend (4xx)
    bytes    ──BadPicture──▶ picture       that one picture's fate; its neighbours go on
    order    ──Unavailable─▶ rows, blobs   ours to mend, soon (503)

A `code` is stable and meant for machines; the text is meant for the person who reads it.
"""


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
    """A parameter is malformed."""

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


class IdempotencyMismatch(Refused):
    """This Idempotency-Key was used before, with other content; use a new key for a new job."""

    code = "idempotency_mismatch"


class JobNotFound(Refused):
    """There is no such job among yours."""

    code = "job_not_found"


class JobSealed(Refused):
    """The job is sealed and takes no more pictures; open another one."""

    code = "job_sealed"


class KeyNotFound(Refused):
    """There is no such key."""

    code = "key_not_found"


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


class BlobMissing(SortbeltError):
    """The picture's bytes are gone from the store."""

    code = "blob_missing"
