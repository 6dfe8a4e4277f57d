"""A bundle must still say what it said when it was made."""

import dataclasses

import numpy as np
import pytest

from model import bundle as bundles
from model import classifier, manifest, selftest


def test_a_sound_bundle_agrees_with_itself(small_bundle):
    assert selftest.check(classifier.Classifier(bundles.load(small_bundle), "cpu", "float32")) < 1e-5


def test_bfloat16_is_allowed_its_coarseness(small_bundle):
    assert selftest.check(classifier.Classifier(bundles.load(small_bundle), "cpu", "bfloat16")) < 0.05


@pytest.mark.parametrize("change", [{"probabilities": (0.9, 0.05, 0.05)}, {"picture": "cat"}])
def test_other_answers_or_another_picture_are_refused(small_bundle, change):
    about = manifest.read(small_bundle)
    manifest.write(small_bundle, dataclasses.replace(about, selftest=dataclasses.replace(about.selftest, **change)))

    with pytest.raises(manifest.BadBundle, match="self-test"):
        selftest.check(classifier.Classifier(bundles.load(small_bundle), "cpu", "float32"))


def test_the_picture_is_the_same_for_ever():
    picture = selftest.picture(5, 4)

    assert picture.shape == (1, 5, 4, 3)
    assert picture.dtype == np.uint8
    assert picture[0, :, :, 1].tolist() == [[51 * y] * 4 for y in range(5)]
    assert picture[0, 0, 0].tolist() == [28, 0, 4]
