"""Response schemas of reviews, their queue and their statistics."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from typing_extensions import TypedDict

from api.schemas import fields, result_responses
from api.schemas.fields import doc
from core import enums, review_statistics

Strategy = Annotated[
    Literal["least_confident", "unfamiliar", "disagreement", "random"] | None,
    doc("how the queue chose the image; null if a person did. " + fields.describe_values(enums.Strategy)),
]


class Review(TypedDict):
    """The verdict of a person on a result."""

    id: Annotated[str, doc("the id of the review")]
    result_id: Annotated[str, doc("the id of the result")]
    image_id: Annotated[str, doc("the id of the image")]
    image: Annotated[str, doc("the name of the image in the submission")]
    job_id: Annotated[fields.Id, doc("the id of its job")]
    sha256: Annotated[str, doc("the SHA-256 of the bytes of the image")]
    model: Annotated[str, doc("the name of the model of the result")]
    version: Annotated[str, doc("the version of the model")]
    model_label: Annotated[str, doc("the label by the model")]
    confidence: Annotated[float, doc("the confidence of the model")]
    familiarity: Annotated[float | None, doc("the familiarity of the image, if the model has a reference")]
    verdict: Annotated[
        Literal["label", "none_of_these", "bad_image", "withdrawn"], doc(fields.describe_values(enums.Verdict))
    ]
    label: Annotated[str | None, doc("the label that the image should have; null unless the verdict is `label`")]
    note: Annotated[str | None, doc("a remark, if there is one")]
    reviewed_by: Annotated[fields.Id, doc("the id of the key that reviewed it")]
    reviewed_at: Annotated[fields.Timestamp, doc("when it was reviewed")]
    strategy: Strategy
    draw_probability: Annotated[
        float | None,
        doc("if the image is in the random sample: the probability with which it was drawn; null if it is not"),
    ]
    replaced_at: Annotated[
        fields.Timestamp | None, doc("when it was replaced or withdrawn; null for the review that counts")
    ]


class Reviews(TypedDict):
    """A page of reviews."""

    reviews: Annotated[list[Review], doc("the newest first")]


class ReviewQueue(TypedDict):
    """Images to review, leased to the caller."""

    strategy: Annotated[enums.Strategy, doc("how they were chosen")]
    model: Annotated[str, doc("the name of the model")]
    version: Annotated[str, doc("the version of the model")]
    lease_seconds: Annotated[float, doc("for so long, no other key gets these images")]
    results: Annotated[list[result_responses.Result], doc("in the order of the strategy; empty if none is left")]


class Estimate(TypedDict):
    """A share of all results, estimated from the random sample."""

    value: Annotated[float, doc("the estimate, 0 to 1")]
    low: Annotated[float, doc("the lower end of its 95 % interval (Wilson)")]
    high: Annotated[float, doc("the upper end")]
    count: Annotated[fields.Count, doc("the number of reviews that it is estimated from")]


class ClassEstimates(TypedDict):
    """How well a version does on one label."""

    label: Annotated[str, doc("the label")]
    precision: Annotated[Estimate | None, doc("of the images with this label by the model, the share that has it")]
    recall: Annotated[Estimate | None, doc("of the images that have this label, the share to which the model gave it")]


class Confusion(TypedDict):
    """Images with one label by the model and another by their reviews."""

    model: Annotated[str, doc("the label by the model")]
    review: Annotated[str | None, doc("the label by the reviews; null for none of the labels")]
    count: Annotated[fields.Count, doc("the number of reviews, however their images were chosen")]
    in_sample: Annotated[fields.Count, doc("the number of these in the random sample")]


class CalibrationBin(TypedDict):
    """The results of a range of confidence."""

    low: Annotated[float, doc("the lower end of the range")]
    high: Annotated[float, doc("the upper end")]
    mean_confidence: Annotated[float, doc("their mean confidence")]
    accuracy: Annotated[Estimate, doc("how often the model was right")]


class VersionReviews(TypedDict):
    """Statistics of the reviews of one version; estimates are null without random reviews."""

    model: Annotated[str, doc("the name of the model")]
    version: Annotated[str, doc("the version")]
    stage: Annotated[str | None, doc("its stage; null if the registry does not have it any more")]
    reviewed: Annotated[fields.Count, doc("the number of reviews that count")]
    by_strategy: Annotated[
        dict[str, int], doc("the number of reviews by how their images were chosen; `by_hand` is not by the queue")
    ]
    by_outcome: Annotated[
        dict[str, int], doc("the number of reviews that say `right`, `wrong`, `none_of_these`, `bad_image`")
    ]
    sampled: Annotated[fields.Count, doc("the number of reviews in the random sample, from which all is estimated")]
    accuracy: Annotated[Estimate | None, doc("how often the model is right, on images that are not bad")]
    none_of_these: Annotated[Estimate | None, doc("the share of these images that no label fits")]
    bad_image: Annotated[Estimate | None, doc("the share of images that cannot be judged")]
    classes: Annotated[list[ClassEstimates], doc("by label")]
    confusions: Annotated[list[Confusion], doc("the most frequent first, up to 100")]
    calibration: Annotated[list[CalibrationBin], doc("by confidence; ranges without reviews are left out")]
    calibration_error: Annotated[float | None, doc("|mean confidence - accuracy|, weighted over the ranges")]


class ReviewStats(TypedDict):
    """Statistics of the reviews of each version."""

    versions: Annotated[list[VersionReviews], doc("live versions first")]


def serialize_review(row: Any) -> Review:
    """Return a review."""
    return fields.from_row(
        Review,
        row,
        id=str(row.id),
        result_id=str(row.image_id),
        image_id=str(row.image_id),
        image=row.name,
        model=row.model_name,
        version=row.model_version,
    )


def serialize_queue(
    strategy: enums.Strategy, model: tuple[str, str], lease_seconds: float, rows: Sequence[Any]
) -> ReviewQueue:
    """Return leased results."""
    name, version = model
    results = [result_responses.serialize_result(row) for row in rows]
    return {
        "strategy": strategy,
        "model": name,
        "version": version,
        "lease_seconds": lease_seconds,
        "results": results,
    }


def serialize_statistics(row: Any, found: review_statistics.ReviewStatistics) -> VersionReviews:
    """Return the statistics of a version."""
    statistics = {
        "model": row.model_name,
        "version": row.model_version,
        "stage": row.stage,
        "reviewed": row.reviewed,
        **dataclasses.asdict(found),
    }
    return cast("VersionReviews", statistics)
