"""Request schemas of reviews and their queue."""

from typing import Annotated, Literal

import pydantic

from api.schemas import base, request_fields
from core import enums

MODEL_REF_PATTERN = r"^[a-z0-9._-]{1,100}(@[a-z0-9._-]{1,100})?$"
VERDICTS = ("label", "none_of_these", "bad_image")
MAX_QUEUE = 100


class ReviewRequest(base.RequestModel):
    """The label that an image should have, or a verdict without a label."""

    example = 'Send {"label": "sushi"}, or {"verdict": "none_of_these"} or {"verdict": "bad_image"}.'
    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"verdict": {"const": "label"}, "label": {"type": "string"}}, "required": ["label"]},
                {
                    "properties": {"verdict": {"enum": list(VERDICTS[1:])}, "label": {"type": "null"}},
                    "required": ["verdict"],
                },
            ]
        }
    )
    verdict: Literal["label", "none_of_these", "bad_image"] = pydantic.Field(
        "label", description=f"one of {', '.join(VERDICTS)}"
    )
    label: request_fields.Text | None = pydantic.Field(
        None,
        validate_default=True,
        description="a label of the model, if the verdict is label",
        examples=["sushi"],
    )
    note: Annotated[request_fields.Text, pydantic.Field(max_length=1000)] | None = pydantic.Field(
        None, description="a remark of at most 1,000 characters"
    )

    @pydantic.field_validator("label")
    @classmethod
    def check_label(cls, label: str | None, info: pydantic.ValidationInfo) -> str | None:
        """Check that there is a label if and only if the verdict needs one."""
        verdict = info.data.get("verdict", "label")
        if verdict == "label" and label is None:
            raise ValueError("it must be a label of the model, or the verdict none_of_these or bad_image")
        if verdict != "label" and label is not None:
            raise ValueError(f"it must be absent with the verdict {verdict}")
        return label


class ReviewFilterQuery(base.RequestModel):
    """Filters of reviews."""

    model: request_fields.Text | None = pydantic.Field(
        None, description="the name of a model, or NAME@VERSION for one of its versions"
    )
    version: request_fields.Text | None = pydantic.Field(None, description="the version of the model")
    job: request_fields.Id | None = pydantic.Field(None, description="the id of a job")
    reviewed_by: request_fields.Id | None = pydantic.Field(None, description="the id of the key that reviewed")
    since: request_fields.Timestamp | None = pydantic.Field(
        None, description=f"reviewed at or after: {request_fields.TIMESTAMP_DESCRIPTION}"
    )
    until: request_fields.Timestamp | None = pydantic.Field(
        None, description=f"reviewed before: {request_fields.TIMESTAMP_DESCRIPTION}"
    )


class ReviewListQuery(ReviewFilterQuery, base.PageQuery):
    """A page of reviews that match the filters."""

    result: Annotated[int, pydantic.Field(ge=0, lt=10**18)] | None = pydantic.Field(
        None, description="the id of a result"
    )
    verdict: Literal["label", "none_of_these", "bad_image", "withdrawn"] | None = pydantic.Field(
        None, description=f"one of {', '.join(VERDICTS)}, withdrawn"
    )
    label: request_fields.Text | None = pydantic.Field(None, description="the label of the review", examples=["sushi"])
    strategy: enums.Strategy | None = pydantic.Field(None, description=f"one of {', '.join(enums.Strategy)}")
    history: request_fields.Boolean = pydantic.Field(
        default=False, description="true: also reviews that were replaced or withdrawn"
    )
    cursor: Annotated[int, pydantic.Field(ge=0, lt=10**18)] | None = request_fields.cursor()


class QueueQuery(base.RequestModel):
    """Which images to review next, and how many."""

    strategy: enums.Strategy = pydantic.Field(
        enums.Strategy.LEAST_CONFIDENT, description=f"one of {', '.join(enums.Strategy)}"
    )
    model: Annotated[str, pydantic.Field(pattern=MODEL_REF_PATTERN)] | None = pydantic.Field(
        None,
        description="a model, as NAME for its live version or NAME@VERSION; not needed if only one model is live",
        examples=["sushi-or-sandwich"],
    )
    limit: int = pydantic.Field(
        default=20, ge=1, le=MAX_QUEUE, description=f"a whole number from 1 to {MAX_QUEUE}; the most images"
    )
