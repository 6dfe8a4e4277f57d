"""Describe a network well enough to rebuild it; imports no torch."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class NetworkSpec:
    """The arguments of `factory.from_spec`.

    The logits of `members` networks are averaged; if `mirrored`, over the image and its mirror image.
    """

    name: str
    classes: Annotated[int, Field(ge=2)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    members: Annotated[int, Field(ge=1)] = 1
    mirrored: bool = False


class PublishedInput(NamedTuple):
    """The input that published weights were trained on: the middle of an image, as in `decode.Preprocess`."""

    side: int
    resample: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: float
