"""The result of a training, ready to be saved as a bundle."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from model.packaging.familiarity_file import Familiarity
    from model.packaging.manifest import Manifest


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A network, its manifest with metrics and temperature, and what cross-validation gave for the held-out images.

    `probabilities` [N, C] are those of each training image by a network that was trained without it.
    """

    network: nn.Module
    manifest: Manifest
    familiarity: Familiarity | None = None
    probabilities: npt.NDArray[np.floating[Any]] | None = None
