"""Response schemas of models, versions and their comparison."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from api.schemas import fields
from api.schemas.fields import doc
from core import enums, review_statistics

SIGNIFICANCE = 0.05  # of the difference between two versions
STAGE_DESCRIPTION = fields.describe_values(enums.Stage)


class WorkerRejection(TypedDict):
    """A worker that cannot load a version, and why."""

    worker: Annotated[str, doc("the id of the worker")]
    reason: Annotated[str, doc("the reason, in a sentence")]


class Version(TypedDict):
    """A version of a model: its stage, and the workers that serve it, or cannot load it."""

    name: Annotated[str, doc("the name of the model")]
    version: Annotated[str, doc("the version")]
    digest: Annotated[str, doc("the SHA-256 digest of the weights")]
    stage: Annotated[Literal["candidate", "live", "shadow", "retired"], doc(STAGE_DESCRIPTION)]
    share: Annotated[float | None, doc("the share of the images that it classifies as a shadow")]
    labels: Annotated[list[str], doc("the labels that it can give")]
    metrics: Annotated[dict[str, Any], doc("as in its bundle")]
    built_in: Annotated[bool, doc("whether it is installed with the workers")]
    served_by: Annotated[list[str], doc("the ids of the workers that serve it")]
    refused_by: Annotated[list[WorkerRejection], doc("the workers that cannot load it")]
    created_at: Annotated[fields.Timestamp, doc("when it was added")]
    created_by: Annotated[str | None, doc("the id of the key that added it")]
    promoted_at: Annotated[fields.Timestamp | None, doc("when it was last promoted; null for never")]


class Versions(TypedDict):
    """All versions of all models."""

    models: Annotated[list[Version], doc("by name, the newest version first")]


class VersionName(TypedDict):
    """A version of a model."""

    name: Annotated[str, doc("the name of the model")]
    version: Annotated[str, doc("the version")]


class ConfusionCell(TypedDict):
    """A pair of labels by two versions, and the number of images that have it."""

    a: Annotated[str, doc("the label by the first version")]
    b: Annotated[str, doc("the label by the second version")]
    count: Annotated[fields.Count, doc("the number of images")]


class Prediction(TypedDict):
    """A label with its confidence."""

    label: Annotated[str, doc("the label")]
    confidence: Annotated[float, doc("its confidence, 0 to 1")]


class Disagreement(TypedDict):
    """An image with different labels by two versions."""

    image: Annotated[str, doc("the name of the image")]
    job_id: Annotated[fields.Id, doc("the id of its job")]
    a: Annotated[Prediction, doc("the result of the first version")]
    b: Annotated[Prediction, doc("the result of the second version")]


class ReviewedComparison(TypedDict):
    """Which of two versions was right more often, on the reviewed images that both classified."""

    compared: Annotated[fields.Count, doc("the number of these images, without those whose verdict is `bad_image`")]
    a_right: Annotated[fields.Count, doc("on so many the first was right")]
    b_right: Annotated[fields.Count, doc("on so many the second was right")]
    only_a_right: Annotated[fields.Count, doc("on so many only the first was right")]
    only_b_right: Annotated[fields.Count, doc("on so many only the second was right")]
    p_value: Annotated[
        float, doc("the probability of such a difference, or a larger one, if none is better: exact McNemar test")
    ]
    better: Annotated[
        Literal["a", "b"] | None, doc("the version that is better with a p_value below 0.05; null if none is")
    ]


class Agreement(TypedDict):
    """The agreement of two versions on the images that both classified."""

    a: Annotated[VersionName, doc("the first version")]
    b: Annotated[VersionName, doc("the second version")]
    compared: Annotated[fields.Count, doc("the number of images that both classified")]
    agreeing: Annotated[fields.Count, doc("the number of these with the same label")]
    agreement: Annotated[float | None, doc("agreeing / compared; null if none was compared")]
    mean_confidence: Annotated[dict[str, float | None], doc("the mean confidence of `a` and of `b`")]
    matrix: Annotated[list[ConfusionCell], doc("the number of images for each pair of labels")]
    errors: Annotated[dict[str, Any], doc("the number of images that each could not classify")]
    reviewed: Annotated[ReviewedComparison, doc("the comparison on reviewed images")]


class Comparison(Agreement):
    """The agreement of two versions, with a page of the images on which they disagree."""

    disagreements: Annotated[list[Disagreement], doc("a page of images with different labels")]


def serialize_model(row: Any, workers: Sequence[Any]) -> Version:
    """Return a version of a model, with the workers that serve it, or cannot load it."""
    version_ref = f"{row.name}@{row.version}"
    return fields.from_row(
        Version,
        row,
        labels=row.manifest["labels"],
        metrics=row.manifest.get("metrics", {}),
        built_in=row.files is None,
        served_by=[worker.id for worker in workers if worker.loaded_models.get(row.name) == row.version],
        refused_by=[
            {"worker": w.id, "reason": w.rejected_models[version_ref]}
            for w in workers
            if version_ref in w.rejected_models
        ],
        created_by=row.creator,
    )


def serialize_agreement(
    a: Any, b: Any, pairs: Sequence[Any], error_counts: Mapping[str, int], reviewed: Any
) -> Agreement:
    """Return the agreement of two versions; `pairs` are their labels, with counts and mean confidences."""
    compared = sum(pair.count for pair in pairs)
    agreeing = sum(pair.count for pair in pairs if pair.label_a == pair.label_b)
    confidence_sums = {side: sum(getattr(pair, f"confidence_{side}") * pair.count for pair in pairs) for side in "ab"}
    return {
        "a": {"name": a.name, "version": a.version},
        "b": {"name": b.name, "version": b.version},
        "compared": compared,
        "agreeing": agreeing,
        "agreement": agreeing / compared if compared else None,
        "mean_confidence": {side: total / compared if compared else None for side, total in confidence_sums.items()},
        "matrix": [{"a": pair.label_a, "b": pair.label_b, "count": pair.count} for pair in pairs],
        "errors": dict(error_counts),
        "reviewed": _serialize_reviewed(reviewed),
    }


def _serialize_reviewed(row: Any) -> ReviewedComparison:
    p_value = review_statistics.sign_test(row.only_a_right, row.only_b_right)
    better = "a" if row.only_a_right > row.only_b_right else "b"
    return fields.from_row(ReviewedComparison, row, p_value=p_value, better=better if p_value < SIGNIFICANCE else None)


def serialize_disagreement(row: Any) -> Disagreement:
    """Return an image with different labels by two versions."""
    return {
        "image": row.name,
        "job_id": row.job_id,
        "a": {"label": row.label_a, "confidence": row.confidence_a},
        "b": {"label": row.label_b, "confidence": row.confidence_b},
    }
