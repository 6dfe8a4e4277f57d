"""Keeps a drawn picture with known answers: does a bundle still say what it said when it was made?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model import bundle as bundles
from model import classifier as classifiers
from model.manifest import BadBundle, SelfTest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from model.classifier import Classifier

PICTURE = "rings-1"
TOLERANCE = 0.001
# bfloat16 keeps 8 bits of a number: probabilities may move in the second digit.
BFLOAT16_TOLERANCE = 0.05


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Coloured rings on a gradient, uint8 [1, height, width, 3]; in integers, so the same everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    rings = ((2 * y - height) ** 2 + (2 * x - width) ** 2) // (height + width)
    channels = (rings * 7 % 256, y * 255 // height, (x * 255 // width + rings) % 256)
    drawn: npt.NDArray[np.uint8] = np.stack(channels, axis=-1)[None].astype(np.uint8)
    return drawn


def record(classifier: Classifier) -> SelfTest:
    """What the classifier says of the picture now, to be kept in its manifest."""
    return SelfTest(PICTURE, tuple(float(p) for p in _answer(classifier)), TOLERANCE)


def check(classifier: Classifier) -> float:
    """The largest difference between what the bundle promises and what the classifier says.

    Raises:
        BadBundle: when it is beyond the tolerance (a wider one in bfloat16), or NaN.
    """
    promised = classifier.bundle.manifest.selftest
    if promised.picture != PICTURE:
        raise BadBundle(f"The self-test picture {promised.picture!r} is unknown: use a newer version of sortbelt.")
    tolerance = promised.tolerance if classifier.precision == "float32" else BFLOAT16_TOLERANCE
    difference = float(np.abs(_answer(classifier) - np.array(promised.probabilities)).max())
    if not difference <= tolerance:
        told = f"off by {difference:.4f} where {tolerance} is allowed"
        raise BadBundle(f"The self-test fails ({told}): network code and bundle do not fit, train again.")
    return difference


def opened(folder: Path, device: str) -> Classifier:
    """A bundle ready for use on a device, after its self-test.

    Raises:
        ValueError: for a bundle that must not be used, or a device that is not here.
    """
    classifier = classifiers.Classifier(bundles.load(folder), device)
    check(classifier)
    return classifier


def _answer(classifier: Classifier) -> npt.NDArray[np.float32]:
    expected = classifier.bundle.preprocess
    answer: npt.NDArray[np.float32] = classifier.classify(picture(expected.height, expected.width))[0]
    return answer
