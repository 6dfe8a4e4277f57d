"""Pixels in, probabilities out, independent of the rest of the batch."""

import dataclasses

import numpy as np
import pytest
import torch

from model.evaluation import calibration
from model.inference import classifier as classifier_module
from model.inference.classifier import Classifier
from model.networks import factory
from model.packaging import bundle as bundles
from model.packaging import familiarity_file, manifest
from model.preprocessing import normalize


@pytest.fixture
def loaded_bundle(small_bundle):
    return bundles.load(small_bundle)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (17, 24, 24, 3), dtype=np.uint8)


def test_probabilities_have_one_row_per_image_and_sum_to_one(loaded_bundle, pixels):
    scores = Classifier(loaded_bundle, "cpu").classify(pixels)

    assert scores.shape == (17, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_they_are_the_softmax_of_the_networks_logits_over_the_temperature(loaded_bundle, pixels):
    with torch.inference_mode():
        logits = loaded_bundle.network(
            normalize.Normalize(loaded_bundle.preprocess).from_uint8(torch.from_numpy(pixels))
        ).numpy()

    expected = calibration.probabilities(logits, loaded_bundle.temperature)
    np.testing.assert_allclose(Classifier(loaded_bundle, "cpu", "float32").classify(pixels), expected, atol=1e-5)


def test_the_same_batch_gives_the_same_bits(loaded_bundle, pixels):
    classifier = Classifier(loaded_bundle, "cpu")

    np.testing.assert_array_equal(classifier.classify(pixels), classifier.classify(pixels))


def test_a_result_does_not_depend_on_the_other_images_of_the_batch(loaded_bundle, pixels):
    classifier = Classifier(loaded_bundle, "cpu", "float32")
    neighbours = pixels.copy()
    neighbours[1:] = 255

    np.testing.assert_array_equal(classifier.classify(pixels)[0], classifier.classify(neighbours)[0])


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_the_batch_size_changes_a_result_by_rounding_only(loaded_bundle, pixels, count):
    classifier = Classifier(loaded_bundle, "cpu", "float32")

    np.testing.assert_allclose(classifier.classify(pixels[:count]), classifier.classify(pixels)[:count], atol=1e-5)


def test_chunks_of_a_batch_change_a_result_by_rounding_only(loaded_bundle, pixels, monkeypatch):
    """In their order, and with a last chunk that is smaller."""
    whole = Classifier(loaded_bundle, "cpu", "float32").classify(pixels)

    monkeypatch.setattr(classifier_module, "CPU_CHUNK_PIXELS", 5 * 24 * 24)
    np.testing.assert_allclose(Classifier(loaded_bundle, "cpu", "float32").classify(pixels), whole, atol=1e-5)


def test_bfloat16_agrees_to_two_digits(loaded_bundle, pixels):
    exact = Classifier(loaded_bundle, "cpu", "float32").classify(pixels)

    np.testing.assert_allclose(Classifier(loaded_bundle, "cpu", "bfloat16").classify(pixels), exact, atol=0.03)


def test_the_bundle_is_left_as_it_was(loaded_bundle):
    Classifier(loaded_bundle, "cpu", "bfloat16")

    assert next(loaded_bundle.network.parameters()).dtype == torch.float32


def test_nan_is_returned_to_the_caller(loaded_bundle, pixels):
    with torch.no_grad():
        loaded_bundle.network[-1].bias[0] = float("nan")

    assert np.isnan(Classifier(loaded_bundle, "cpu").classify(pixels)).all()


def test_familiarity_of_another_network_is_rejected(loaded_bundle):
    other = familiarity_file.Familiarity(
        references=torch.ones(5, 7, dtype=torch.int8),
        distances=torch.linspace(0, 1, familiarity_file.QUANTILES),
        photos=torch.zeros(5, familiarity_file.DIGEST_BYTES, dtype=torch.uint8),
        predicted=torch.zeros(5, dtype=torch.int32),
    )

    with pytest.raises(manifest.InvalidBundle, match="photos have 7 features, and its network 1024"):
        Classifier(dataclasses.replace(loaded_bundle, familiarity=other), "cpu")


def test_an_empty_batch_gives_no_rows(loaded_bundle, pixels):
    assert Classifier(loaded_bundle, "cpu").classify(pixels[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((24, 24, 3), np.uint8),
        np.zeros((1, 3, 24, 24), np.uint8),
        np.zeros((1, 24, 25, 3), np.uint8),
        np.zeros((1, 24, 24, 3), np.float32),
    ],
)
def test_other_shapes_and_types_are_rejected(loaded_bundle, wrong):
    with pytest.raises(ValueError, match="uint8"):
        Classifier(loaded_bundle, "cpu").classify(wrong)


@pytest.mark.parametrize("options", [("tpu9",), ("cuda:99",), ("cpu", "int3")])
def test_unavailable_devices_and_precisions_are_rejected(loaded_bundle, options):
    with pytest.raises(ValueError, match="auto"):
        Classifier(loaded_bundle, *options)


def test_precision_is_float32_on_a_cpu_without_amx(loaded_bundle, monkeypatch):
    for amx, precision in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=amx: {"amx_bf16": amx})
        assert Classifier(loaded_bundle, "cpu").precision == precision


def test_temperature_softens_without_changing_the_label(loaded_bundle, pixels):
    manifest = dataclasses.replace(loaded_bundle.manifest, temperature=5.0)

    sharp = Classifier(loaded_bundle, "cpu").classify(pixels)
    soft = Classifier(dataclasses.replace(loaded_bundle, manifest=manifest), "cpu").classify(pixels)
    assert (sharp.argmax(axis=1) == soft.argmax(axis=1)).all()
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_labels_of_the_cpu(loaded_bundle, pixels):
    exact = Classifier(loaded_bundle, "cpu", "float32").classify(pixels)

    np.testing.assert_allclose(Classifier(loaded_bundle, "cuda").classify(pixels), exact, atol=0.03)


@pytest.mark.parametrize("name", ["cookpad-cnn", "residual", "convnext_tiny", "resnet18"])
def test_dense_layers_run_in_float32_behind_bfloat16_convolutions(name):
    torch.manual_seed(0)
    network = factory.build(name, classes=3, height=32, width=32).eval()
    torch.nn.init.normal_(list(network.modules())[-1].weight, std=0.1)
    images = torch.randn(2, 3, 32, 32)
    exact = network(images)

    classifier_module.dense_layers_to_float32(network.bfloat16())

    logits = network(images.bfloat16())
    assert logits.dtype == (torch.bfloat16 if name == "resnet18" else torch.float32)  # it flattens in a function
    torch.testing.assert_close(logits.float(), exact, rtol=0.05, atol=0.05)
