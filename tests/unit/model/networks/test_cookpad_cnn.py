"""The published network is rebuilt layer by layer."""

import itertools

import pytest
import torch

from model import summary
from model.networks import factory

# The published table: layer, output of one image, parameters.
PUBLISHED = [
    ("conv 3×3 same, 32", "32×64×64", 896),
    ("conv 3×3 valid, 32", "32×62×62", 9_248),
    ("max pool 2, dropout .25", "32×31×31", 0),
    ("conv 3×3 same, 64", "64×31×31", 18_496),
    ("conv 3×3 valid, 64", "64×29×29", 36_928),
    ("max pool 2, dropout .25", "64×14×14", 0),
    ("conv 3×3 same, 128", "128×14×14", 73_856),
    ("conv 3×3 valid, 128", "128×12×12", 147_584),
    ("max pool 2, dropout .25", "128×6×6", 0),
    ("flatten, dense 1024, dropout .5", "1024", 4_719_616),
    ("dense 2, softmax", "2", 2_050),
]
TOTAL = 5_008_674


def cookpad_cnn():
    return factory.build("cookpad-cnn", classes=2, height=64, width=64)


def test_cookpad_cnn_is_the_published_network_row_by_row():
    network = cookpad_cnn()

    rows = summary.layer_rows(network, height=64, width=64)

    assert rows == PUBLISHED
    assert sum(parameter.numel() for parameter in network.parameters()) == TOTAL


def test_relu_follows_every_convolution_and_the_first_dense_layer():
    kinds = [type(layer).__name__ for layer in cookpad_cnn()]

    followers = [after for layer, after in itertools.pairwise(kinds) if layer in ("Conv2d", "Linear")]
    assert followers == ["ReLU"] * 7
    assert kinds[-1] == "Linear"


@pytest.mark.parametrize(("classes", "height", "width"), [(2, 64, 64), (7, 40, 96), (3, 22, 22)])
def test_it_takes_other_sizes_and_numbers_of_classes(classes, height, width):
    network = factory.build("cookpad-cnn", classes=classes, height=height, width=width).eval()

    assert network(torch.zeros(2, 3, height, width)).shape == (2, classes)


@pytest.mark.parametrize(("classes", "size"), [(1, 64), (2, 21)])
def test_too_few_classes_and_too_small_images_are_rejected(classes, size):
    with pytest.raises(ValueError, match="at least"):
        factory.build("cookpad-cnn", classes=classes, height=size, width=size)


def test_fresh_weights_preserve_the_scale_of_their_input():
    torch.manual_seed(0)
    network = factory.build("cookpad-cnn", classes=2, height=64, width=64).eval()

    with torch.inference_mode():
        features = network[:-1](torch.randn(8, 3, 64, 64))
        logits = network[-1](features)

    assert 0.2 < float(features.std()) < 5
    assert float(logits.abs().max()) == 0
