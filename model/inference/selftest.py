"""Check that a bundle still gives the probabilities it gave when it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.inference.classifier import Classifier
from model.packaging import bundle as bundles
from model.packaging.manifest import InvalidBundle, SelfTest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

IMAGE_NAME = "rings-1"
TOLERANCE = 0.001
# bfloat16 has 8 significant bits: probabilities may differ in the second digit.
BFLOAT16_TOLERANCE = 0.05


def reference_image(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw coloured rings on a gradient, uint8 [1, height, width, 3], in integers: the same on every machine."""
    y, x = np.mgrid[0:height, 0:width]
    rings = ((2 * y - height) ** 2 + (2 * x - width) ** 2) // (height + width)
    channels = (rings * 7 % 256, y * 255 // height, (x * 255 // width + rings) % 256)
    image: npt.NDArray[np.uint8] = np.stack(channels, axis=-1)[None].astype(np.uint8)
    return image


def record(classifier: Classifier) -> SelfTest:
    """Classify the reference image and return the result for the manifest."""
    return SelfTest(IMAGE_NAME, tuple(float(p) for p in _classify_reference(classifier)), TOLERANCE)


def check(classifier: Classifier) -> float:
    """Return the largest difference between the manifest's probabilities and the classifier's.

    Raises:
        InvalidBundle: the difference exceeds the tolerance (a wider one in bfloat16), or is NaN.
    """
    expected = classifier.bundle.manifest.selftest
    if expected.picture != IMAGE_NAME:
        raise InvalidBundle(f"Unknown self-test image {expected.picture!r}: use a newer version of sortbelt.")
    tolerance = expected.tolerance if classifier.precision == "float32" else BFLOAT16_TOLERANCE
    difference = float(np.abs(_classify_reference(classifier) - np.array(expected.probabilities)).max())
    if not difference <= tolerance:
        problem = f"a probability is off by {difference:.4f}, {tolerance} is allowed"
        raise InvalidBundle(f"The self-test fails ({problem}): the bundle does not fit this code, train again.")
    return difference


def load_verified(folder: Path, device: str) -> Classifier:
    """Load a bundle onto a device and run its self-test.

    Raises:
        InvalidBundle: the bundle cannot be used.
        ValueError: the device is unknown or not available.
    """
    classifier = Classifier(bundles.load(folder), device)
    check(classifier)
    return classifier


def _classify_reference(classifier: Classifier) -> npt.NDArray[np.float32]:
    preprocess = classifier.bundle.preprocess
    (row,) = classifier.classify(reference_image(preprocess.height, preprocess.width))
    probabilities: npt.NDArray[np.float32] = row
    return probabilities
