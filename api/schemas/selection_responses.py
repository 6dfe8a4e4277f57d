"""Response schemas of actions on several images at once."""

from collections.abc import Sequence
from typing import Annotated

from typing_extensions import TypedDict

from api.schemas import fields, purge_responses
from api.schemas.fields import doc
from core import errors


class SelectionFault(TypedDict):
    """An image of a selection that was left as it is."""

    image_id: Annotated[str, doc("the id of the image")]
    code: Annotated[str, doc("the code of the error, such as `image_running`")]
    detail: Annotated[str, doc("what is wrong, and what to do")]


class SelectionReviews(TypedDict):
    """The outcome of a review of several images."""

    reviewed: Annotated[fields.Count, doc("the number of images that have this review now")]
    failed: Annotated[list[SelectionFault], doc("the other images")]


class SelectionDeletion(TypedDict):
    """The outcome of a deletion of several images."""

    deleted: Annotated[list[purge_responses.ImageDeletion], doc("a receipt for each deleted image")]
    failed: Annotated[list[SelectionFault], doc("the other images")]


def serialize_faults(faults: Sequence[tuple[int, errors.SortbeltError]]) -> list[SelectionFault]:
    """Return the images of a selection that could not be changed."""
    return [{"image_id": str(image_id), "code": error.code, "detail": error.detail} for image_id, error in faults]
