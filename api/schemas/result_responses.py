"""Response schemas of results, statistics and differences."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from api.schemas import fields
from api.schemas.fields import doc
from core import enums

VERDICT_DESCRIPTION = fields.describe_values(enums.Verdict, "label", "none_of_these", "bad_image")
RESULT_STATUS_DESCRIPTION = fields.describe_values(enums.Status, "done", "failed", "cancelled", "expired")


class ImageError(TypedDict):
    """Why an image has no label: a stable code for machines, a sentence for people."""

    code: Annotated[str, doc("one of the error codes of images, such as `undecodable`")]
    detail: Annotated[str, doc("a sentence, which may change")]


class ModelRef(TypedDict):
    """The model of a result; version and digest are null if the image was not classified."""

    name: Annotated[str, doc("the name of the model")]
    version: Annotated[str | None, doc("the version of the model")]
    digest: Annotated[str | None, doc("SHA-256 of its weights")]


class Environment(TypedDict):
    """The hardware and the libraries that produced a result."""

    device: Annotated[str, doc("the device that ran the network", examples=["NVIDIA H200"])]
    precision: Annotated[str, doc("the numeric precision of the network", examples=["bfloat16"])]
    torch: Annotated[str, doc("the version of PyTorch", examples=["2.13.0+cu130"])]
    decoder: Annotated[str, doc("the image decoder")]
    sortbelt: Annotated[str, doc("the version of the worker", examples=["0.1.0"])]


class ResultReview(TypedDict):
    """The verdict of a person on a result."""

    verdict: Annotated[Literal["label", "none_of_these", "bad_image"], doc(VERDICT_DESCRIPTION)]
    label: Annotated[str | None, doc("the label that the image should have; null unless the verdict is `label`")]
    note: Annotated[str | None, doc("a remark, if there is one")]
    reviewed_by: Annotated[fields.Id, doc("the id of the key that reviewed it")]
    reviewed_at: Annotated[fields.Timestamp, doc("when it was reviewed")]
    strategy: Annotated[str | None, doc("how the queue chose the image; null if a person did")]


class Result(TypedDict):
    """The result of one image: a label with its confidence, or an error."""

    id: Annotated[str, doc("the id of this result")]
    image: Annotated[str, doc("the name of the image in the submission")]
    image_id: Annotated[str, doc("the id of the image; /v1/images/{image_id}/thumbnail is its thumbnail")]
    custom_id: Annotated[str | None, doc("the caller's own identifier, if there is one")]
    job_id: Annotated[fields.Id, doc("the id of its job")]
    owner: Annotated[str, doc("the name of the key that submitted the job")]
    status: Annotated[Literal["done", "failed", "cancelled", "expired"], doc(RESULT_STATUS_DESCRIPTION)]
    label: Annotated[str | None, doc("the label with the highest score; null if there is an error")]
    confidence: Annotated[
        float | None, doc("the calibrated probability of the label, 0 to 1; null if there is an error")
    ]
    scores: Annotated[
        dict[str, float] | None, doc("the probability of each label; they sum to 1; null if there is an error")
    ]
    familiarity: Annotated[
        float | None,
        doc(
            "the share of held-out training photos that are less familiar to the model, 0 to 1: near 0 the image may "
            "be none of its labels; null if there is an error, or the model has no reference"
        ),
    ]
    error: Annotated[ImageError | None, doc("why there is no label; null if there is one")]
    model: Annotated[ModelRef, doc("the model that classified the image")]
    review: Annotated[ResultReview | None, doc("what a person says of it; null if there is no review that counts")]
    cached: Annotated[bool, doc("whether it was copied from an earlier result for the same bytes and weights")]
    timings: Annotated[
        dict[str, float],
        doc("`decode_ms`, and `forward_ms` of all images in its `batch`; empty if no worker processed it"),
    ]
    environment: Annotated[
        Environment | None, doc("of a cached result, that of the original; null if no worker processed it")
    ]
    worker: Annotated[
        str | None, doc("the worker that processed the image last; null if none did, or the result is cached")
    ]
    finished_at: Annotated[fields.Timestamp, doc("when the result was written")]


class Results(TypedDict):
    """A page of results."""

    results: Annotated[list[Result], doc("in the requested order")]


class Stat(TypedDict):
    """The number of results in one group; the key is null where a result has none, as a failed one has no label."""

    key: Annotated[
        str | None,
        doc("the group: a label, a status … A range of confidence or familiarity is named by its lower end"),
    ]
    by: Annotated[str | None, doc("its value of the second property; null without one")]
    count: Annotated[fields.Count, doc("the number of results")]
    confidence: Annotated[float | None, doc("the mean confidence of those that have one")]
    familiarity: Annotated[float | None, doc("the mean familiarity of those that have one")]


class Stats(TypedDict):
    """The number of results in each group."""

    group: Annotated[str, doc("the property by which results are grouped")]
    by: Annotated[str | None, doc("the second property; null without one")]
    stats: Annotated[list[Stat], doc("the groups with their counts")]


class DiffSide(TypedDict):
    """The result of an image in one of two jobs."""

    label: Annotated[str | None, doc("null if there is an error")]
    confidence: Annotated[float | None, doc("0 to 1; null if there is an error")]


class Change(TypedDict):
    """An image with different labels in two jobs."""

    image: Annotated[str, doc("the name of the image")]
    a: Annotated[DiffSide | None, doc("its result in the first job; null if it has none there")]
    b: Annotated[DiffSide | None, doc("its result in the second job; null if it has none there")]


class LabelPair(TypedDict):
    """Images with one label in the first job, and one in the second."""

    a: Annotated[str | None, doc("the label in the first job; null if there is an error")]
    b: Annotated[str | None, doc("the label in the second job")]
    count: Annotated[fields.Count, doc("the number of images")]


class LabelPairs(TypedDict):
    """How the labels of two jobs agree, over the images that both have."""

    compared: Annotated[fields.Count, doc("the number of images with a result in both jobs")]
    agreeing: Annotated[fields.Count, doc("the number of these with the same label in both")]
    pairs: Annotated[list[LabelPair], doc("the most frequent first")]


class Changes(TypedDict):
    """A page of differences between two jobs."""

    changes: Annotated[list[Change], doc("sorted by name")]


def serialize_result(row: Any) -> Result:
    """Return a result."""
    return {
        "id": str(row.image_id),
        "image": row.name,
        "image_id": str(row.image_id),
        "custom_id": row.custom_id,
        "job_id": row.job_id,
        "owner": row.owner,
        "status": row.status,
        "label": row.label,
        "confidence": row.confidence,
        "scores": row.scores,
        "familiarity": row.familiarity,
        "error": None if row.error_code is None else {"code": row.error_code, "detail": row.error_detail},
        "model": {"name": row.model_name, "version": row.model_version, "digest": row.model_digest},
        "review": _serialize_result_review(row),
        "cached": row.cached,
        "timings": row.timings,
        "environment": serialize_environment(row),
        "worker": row.worker,
        "finished_at": fields.timestamp(row.finished_at),
    }


def _serialize_result_review(row: Any) -> ResultReview | None:
    if row.review_verdict is None:
        return None
    return {
        "verdict": row.review_verdict,
        "label": row.review_label,
        "note": row.review_note,
        "reviewed_by": row.review_reviewed_by,
        "reviewed_at": fields.timestamp(row.review_reviewed_at),
        "strategy": row.review_strategy,
    }


def serialize_environment(row: Any) -> Environment | None:
    """Return the environment of a result; None if no worker processed it."""
    if row.environment_id is None:
        return None
    return {
        "device": row.device,
        "precision": row.precision,
        "torch": row.torch,
        "decoder": row.decoder,
        "sortbelt": row.sortbelt,
    }


def serialize_stat(row: Any) -> Stat:
    """Return the count of a group."""
    return fields.from_row(Stat, row, by=getattr(row, "by", None))


def serialize_pairs(rows: Sequence[Any]) -> LabelPairs:
    """Return the pairs of labels of two jobs."""
    return {
        "compared": sum(row.count for row in rows),
        "agreeing": sum(row.count for row in rows if row.a == row.b),
        "pairs": [{"a": row.a, "b": row.b, "count": row.count} for row in rows],
    }


def serialize_change(row: Any) -> Change:
    """Return a difference between two jobs."""
    return {
        "image": row.name,
        "a": {"label": row.label_a, "confidence": row.confidence_a} if row.in_a else None,
        "b": {"label": row.label_b, "confidence": row.confidence_b} if row.in_b else None,
    }
