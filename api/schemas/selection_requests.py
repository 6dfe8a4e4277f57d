"""Request schemas of actions on several images at once."""

from typing import Annotated

import pydantic

from api.schemas import base, request_fields, review_requests

MAX_SELECTED = 1_000
ImageIds = Annotated[
    list[
        Annotated[
            str,
            pydantic.StringConstraints(pattern=r"^[0-9]{1,18}$"),
            pydantic.Field(description="the id of an image, a number in quotation marks"),
        ]
    ],
    pydantic.Field(
        min_length=1,
        max_length=MAX_SELECTED,
        description=f"1 to {MAX_SELECTED:,} ids of images",
        examples=[["1"]],
    ),
]


class Selection(base.RequestModel):
    """Images by their ids."""

    example = 'Send {"images": ["1", "2"]}.'
    images: ImageIds

    @property
    def image_ids(self) -> list[int]:
        """The ids as numbers, each once."""
        return list(dict.fromkeys(map(int, self.images)))


class Resubmission(Selection):
    """Images to be classified again, and by which model."""

    example = 'Send {"images": ["1", "2"]}, and "model" for another one.'
    model: request_fields.Text | None = pydantic.Field(
        None, description="the name of a model; by default that of the images", examples=["sushi-or-sandwich"]
    )
    job_name: request_fields.JobName | None = pydantic.Field(None, description="the name of the new job")
    fresh: request_fields.Boolean = pydantic.Field(
        default=False, description="true: bypass the cache, and classify images again that this model has labelled"
    )


class SelectionReview(Selection, review_requests.ReviewRequest):
    """The label that several images should have, or a verdict without a label."""

    example = 'Send {"images": ["1", "2"], "label": "sushi"}, or {"images": ["1"], "verdict": "none_of_these"}.'
