"""Pixels in, probabilities out, whatever else is in the batch."""

import dataclasses

import numpy as np
import pytest
import torch

from model import bundle as bundles
from model import calibration, inputs
from model.classifier import Classifier


@pytest.fixture
def loaded(small_bundle):
    return bundles.load(small_bundle)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (17, 24, 24, 3), dtype=np.uint8)


def test_probabilities_have_one_row_a_picture_and_sum_to_one(loaded, pixels):
    scores = Classifier(loaded, "cpu").classify(pixels)

    assert scores.shape == (17, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_they_are_the_softmax_of_the_networks_logits_over_the_temperature(loaded, pixels):
    with torch.inference_mode():
        logits = loaded.network(inputs.Normalise(loaded.preprocess).pixels(torch.from_numpy(pixels))).numpy()

    expected = calibration.probabilities(logits, loaded.temperature)
    np.testing.assert_allclose(Classifier(loaded, "cpu", "float32").classify(pixels), expected, atol=1e-5)


def test_the_same_batch_gives_the_same_bits(loaded, pixels):
    classifier = Classifier(loaded, "cpu")

    np.testing.assert_array_equal(classifier.classify(pixels), classifier.classify(pixels))


def test_a_pictures_answer_does_not_depend_on_its_neighbours(loaded, pixels):
    classifier = Classifier(loaded, "cpu", "float32")
    neighbours = pixels.copy()
    neighbours[1:] = 255

    np.testing.assert_array_equal(classifier.classify(pixels)[0], classifier.classify(neighbours)[0])


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_the_size_of_the_batch_moves_an_answer_by_rounding_only(loaded, pixels, count):
    classifier = Classifier(loaded, "cpu", "float32")

    np.testing.assert_allclose(classifier.classify(pixels[:count]), classifier.classify(pixels)[:count], atol=1e-5)


def test_bfloat16_agrees_to_two_digits(loaded, pixels):
    exact = Classifier(loaded, "cpu", "float32").classify(pixels)

    np.testing.assert_allclose(Classifier(loaded, "cpu", "bfloat16").classify(pixels), exact, atol=0.03)


def test_the_bundle_is_left_as_it_was(loaded):
    Classifier(loaded, "cpu", "bfloat16")

    assert next(loaded.network.parameters()).dtype == torch.float32


def test_nan_comes_through_for_the_caller_to_judge(loaded, pixels):
    with torch.no_grad():
        loaded.network[-1].bias[0] = float("nan")

    assert np.isnan(Classifier(loaded, "cpu").classify(pixels)).all()


def test_an_empty_batch_is_answered_with_no_rows(loaded, pixels):
    assert Classifier(loaded, "cpu").classify(pixels[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((24, 24, 3), np.uint8),
        np.zeros((1, 3, 24, 24), np.uint8),
        np.zeros((1, 24, 25, 3), np.uint8),
        np.zeros((1, 24, 24, 3), np.float32),
    ],
)
def test_other_shapes_and_types_are_refused(loaded, wrong):
    with pytest.raises(ValueError, match="uint8"):
        Classifier(loaded, "cpu").classify(wrong)


@pytest.mark.parametrize("options", [("tpu9",), ("cuda:99",), ("cpu", "int3")])
def test_devices_and_precisions_that_are_not_here_are_refused(loaded, options):
    with pytest.raises(ValueError, match="auto"):
        Classifier(loaded, *options)


def test_precision_is_float32_on_a_cpu_without_amx(loaded, monkeypatch):
    for amx, precision in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=amx: {"amx_bf16": amx})
        assert Classifier(loaded, "cpu").precision == precision


def test_temperature_softens_without_changing_the_label(loaded, pixels):
    manifest = dataclasses.replace(loaded.manifest, temperature=5.0)

    sharp = Classifier(loaded, "cpu").classify(pixels)
    soft = Classifier(dataclasses.replace(loaded, manifest=manifest), "cpu").classify(pixels)
    assert (sharp.argmax(axis=1) == soft.argmax(axis=1)).all()
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_labels_of_the_cpu(loaded, pixels):
    exact = Classifier(loaded, "cpu", "float32").classify(pixels)

    np.testing.assert_allclose(Classifier(loaded, "cuda").classify(pixels), exact, atol=0.03)
