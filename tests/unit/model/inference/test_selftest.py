"""A bundle must still give the probabilities it gave when it was made."""

import dataclasses

import numpy as np
import pytest

from model.inference import classifier, selftest
from model.packaging import bundle as bundles
from model.packaging import manifest


def test_a_valid_bundle_passes(small_bundle):
    assert selftest.check(classifier.Classifier(bundles.load(small_bundle), "cpu", "float32")) < 1e-5


def test_bfloat16_has_a_wider_tolerance(small_bundle):
    assert selftest.check(classifier.Classifier(bundles.load(small_bundle), "cpu", "bfloat16")) < 0.05


@pytest.mark.parametrize("change", [{"probabilities": (0.9, 0.05, 0.05)}, {"picture": "cat"}])
def test_other_probabilities_or_another_image_are_rejected(small_bundle, change):
    bundle_manifest = manifest.read(small_bundle)
    manifest.write(
        small_bundle,
        dataclasses.replace(bundle_manifest, selftest=dataclasses.replace(bundle_manifest.selftest, **change)),
    )

    with pytest.raises(manifest.InvalidBundle, match="self-test"):
        selftest.check(classifier.Classifier(bundles.load(small_bundle), "cpu", "float32"))


def test_the_reference_image_never_changes():
    image = selftest.reference_image(5, 4)

    assert image.shape == (1, 5, 4, 3)
    assert image.dtype == np.uint8
    assert image[0, :, :, 1].tolist() == [[51 * y] * 4 for y in range(5)]
    assert image[0, 0, 0].tolist() == [28, 0, 4]
