"""Request schemas of result lists and statistics."""

from typing import Annotated, Literal, get_args

import pydantic

from api.schemas import base, request_fields

RESULT_CURSOR_PATTERN = r"^((0|1|0\.[0-9]{1,20})_)?[0-9]{1,18}$"


class ResultFilterQuery(base.RequestModel):
    """Filters of results."""

    job: request_fields.Id | None = pydantic.Field(None, description="the id of a job")
    label: request_fields.Text | None = pydantic.Field(None, description="a label of the model", examples=["sushi"])
    min_confidence: request_fields.Fraction | None = pydantic.Field(
        None, description="a number from 0 to 1: the lowest confidence", examples=[0.9]
    )
    max_confidence: request_fields.Fraction | None = pydantic.Field(
        None, description="a number from 0 to 1: the highest confidence"
    )
    min_familiarity: request_fields.Fraction | None = pydantic.Field(
        None, description="a number from 0 to 1: the lowest familiarity"
    )
    max_familiarity: request_fields.Fraction | None = pydantic.Field(
        None, description="a number from 0 to 1: the highest familiarity", examples=[0.02]
    )
    status: Literal["done", "failed", "cancelled", "expired"] | None = pydantic.Field(
        None, description="one of done, failed, cancelled, expired"
    )
    error: request_fields.Text | None = pydantic.Field(None, description="the code of an error, such as undecodable")
    model: request_fields.Text | None = pydantic.Field(
        None, description="the name of a model, or NAME@VERSION for one of its versions"
    )
    version: request_fields.Text | None = pydantic.Field(None, description="the version of the model")
    owner: request_fields.Text | None = pydantic.Field(None, min_length=1, description=request_fields.OWNER_DESCRIPTION)
    since: request_fields.Timestamp | None = pydantic.Field(
        None, description=f"finished at or after: {request_fields.TIMESTAMP_DESCRIPTION}"
    )
    until: request_fields.Timestamp | None = pydantic.Field(
        None, description=f"finished before: {request_fields.TIMESTAMP_DESCRIPTION}"
    )
    name: request_fields.Text | None = pydantic.Field(
        None, min_length=1, description="a text that the name of the image contains, case-insensitive"
    )
    custom_id: request_fields.CustomId | None = pydantic.Field(
        None, description="your own identifier, as it was submitted"
    )
    reviewed: request_fields.Boolean | None = pydantic.Field(
        None, description="true: only results with a review; false: only those without"
    )


class ResultListQuery(ResultFilterQuery, base.PageQuery):
    """A page of results that match the filters, and their sort order."""

    order: Literal["newest", "confidence", "familiarity"] = pydantic.Field(
        "newest",
        description="newest (default; the latest first), confidence (the least confident first) or familiarity (the "
        "least familiar first)",
    )
    cursor: Annotated[str, pydantic.StringConstraints(pattern=RESULT_CURSOR_PATTERN)] | None = request_fields.cursor()


Group = Literal["label", "status", "error", "model", "confidence", "familiarity", "day", "hour"]
GROUPS = ", ".join(get_args(Group))


class StatsQuery(ResultFilterQuery):
    """The results to count, and how they are grouped."""

    group: Group = pydantic.Field("label", description=f"one of {GROUPS} (default: label)")
    by: Group | None = pydantic.Field(
        None, description=f"a second property, which divides each group: one of {GROUPS}", examples=["label"]
    )
