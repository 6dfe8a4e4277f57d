"""Request schemas of models, shadows and comparisons."""

from typing import Annotated

import pydantic

from api.schemas import base, request_fields
from core import errors

PAIR_CURSOR_PATTERN = r"^\d\.\d{1,20}(e-\d{1,3})?_\d{1,18}$"


class VersionRequest(base.RequestModel):
    """A version of a model."""

    example = 'Send {"version": "2"}.'
    version: request_fields.Text = pydantic.Field(description="a version of the model")


class PromotionRequest(VersionRequest):
    """A version to make live."""

    force: bool = pydantic.Field(
        default=False, description="promote it without a worker's test; workers test it before they serve it"
    )


class ShadowRequest(VersionRequest):
    """A version to run as a shadow, and its share of the images."""

    example = 'Send {"version": "2", "share": 0.1}; a share of 0 ends the shadow.'
    share: request_fields.Fraction


class ComparisonQuery(base.PageQuery):
    """Two versions to compare; the page is of the images on which they disagree."""

    a: request_fields.VersionRef
    b: request_fields.VersionRef = pydantic.Field(description="another version of the same model, as NAME@VERSION")
    cursor: Annotated[str, pydantic.StringConstraints(pattern=PAIR_CURSOR_PATTERN)] | None = request_fields.cursor()

    @property
    def versions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The name and the version of each."""
        (name, version), (other_name, other_version) = self.a.split("@"), self.b.split("@")
        if name != other_name:
            raise errors.BadParameter(f"{self.a} and {self.b} are of different models; give two versions of one model.")
        return (name, version), (name, other_version)

    @property
    def cursor_position(self) -> tuple[float, int] | None:
        """The confidence and the id of the last image of the previous page."""
        if self.cursor is None:
            return None
        confidence, _, image_id = self.cursor.partition("_")
        return float(confidence), int(image_id)
