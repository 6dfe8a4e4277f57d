"""Enumerations of states, roles and priorities, with the meaning of each value."""

import enum
from typing import Self


class DescribedEnum(enum.StrEnum):
    """An enumeration whose values have descriptions, shown in `/openapi.json` and `/docs` too."""

    _value_: str
    description: str

    def __new__(cls, value: str, description: str = "") -> Self:
        """Create a member from its value and its description."""
        member = str.__new__(cls, value)
        member._value_, member.description = value, description
        return member

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return the description of each value."""
        return {member.value: member.description for member in cls}


class Status(DescribedEnum):
    """The status of an image; the last four are final and have a row in `results`."""

    QUEUED = "queued", "waits for a worker"
    RUNNING = "running", "a worker holds it"  # until `lease_until`; then any worker may requeue it
    DONE = "done", "has a label"
    FAILED = "failed", "has an error, whose code says why"
    CANCELLED = "cancelled", "its owner cancelled it before a worker claimed it"
    EXPIRED = "expired", "its deadline passed before a worker claimed it"


class JobStatus(DescribedEnum):
    """The status of a job as a whole; the last four are final. Each image has a status of its own."""

    QUEUED = "queued", "none of its images is claimed or has a result yet; an open job may have no images"
    RUNNING = "running", "some images are claimed or have a result; an open job stays running until it is sealed"
    DONE = "done", "finished, and at least one image has a label, or there are no images: see `counts` for the others"
    FAILED = "failed", "finished, and no image has a label but some have an error; or its import from a source failed"
    CANCELLED = "cancelled", "its owner cancelled it, and no worker holds its images any more; their results stay"
    EXPIRED = "expired", "finished, because its deadline passed before any of its images had a label or an error"


class Priority(enum.IntEnum):
    """The priority of a job: workers mostly claim interactive images before bulk ones (`worker/fair_share.py`)."""

    INTERACTIVE = 0
    BULK = 1


class Stage(DescribedEnum):
    """The stage of a model version: which images it classifies, if any."""

    CANDIDATE = "candidate", "registered, and never live"
    LIVE = "live", "classifies the images submitted for its model; there is one at most"
    SHADOW = "shadow", "classifies a share of these images beside the live one; its results are only compared"
    RETIRED = "retired", "was live before"


class Role(DescribedEnum):
    """The role of a key: what it may do, and which jobs it sees."""

    READ = "read", "sees the jobs and results of all keys, and changes nothing"
    REVIEW = "review", "sees what `read` sees, gets the images themselves, and reviews results"
    SUBMIT = "submit", "submits jobs, and sees and reviews its own"
    ADMIN = "admin", "may do everything: sees the jobs of all keys, submits its own, and manages keys and models"


class DeliveryStatus(DescribedEnum):
    """The status of a webhook delivery."""

    PENDING = "pending", "waits for its next attempt, or is being sent"
    DELIVERED = "delivered", "the receiver responded with 2xx"
    FAILED = "failed", "the last attempt failed too"
    DISABLED = "disabled", "the receiver responded with 410: it does not accept the webhook any more"


class ScanStatus(DescribedEnum):
    """The status of an import, which fills a job from a source."""

    PENDING = "pending", "is queued or running"
    DONE = "done", "has listed the whole source"
    FAILED = "failed", "cannot continue; the images found so far are in the job"
    CANCELLED = "cancelled", "the job was cancelled, or is past its deadline"


class Verdict(DescribedEnum):
    """The verdict of a review on an image; only `label` comes with a label."""

    LABEL = "label", "the image has the label of the review"
    NONE_OF_THESE = "none_of_these", "none of the model's labels fits the image"
    BAD_IMAGE = "bad_image", "the image cannot be judged"
    WITHDRAWN = "withdrawn", "the review before it was withdrawn: in the history only"


class Strategy(DescribedEnum):
    """How the review queue chooses images."""

    LEAST_CONFIDENT = "least_confident", "the lowest confidence first"
    UNFAMILIAR = "unfamiliar", "the lowest familiarity first"
    DISAGREEMENT = "disagreement", "another version, as a shadow, gave another label; the newest first"
    RANDOM = "random", "every result equally likely: only these reviews give unbiased estimates"
