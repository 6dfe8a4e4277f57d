"""The published network is rebuilt layer by layer; names that are unknown are refused."""

import pytest
import torch

from model import networks, summary

# What was published: kind of layer, output of one picture, parameters.
PUBLISHED = [
    ("conv 3x3 same, 32", "32x64x64", 896),
    ("conv 3x3 valid, 32", "32x62x62", 9_248),
    ("max pool 2, dropout .25", "32x31x31", 0),
    ("conv 3x3 same, 64", "64x31x31", 18_496),
    ("conv 3x3 valid, 64", "64x29x29", 36_928),
    ("max pool 2, dropout .25", "64x14x14", 0),
    ("conv 3x3 same, 128", "128x14x14", 73_856),
    ("conv 3x3 valid, 128", "128x12x12", 147_584),
    ("max pool 2, dropout .25", "128x6x6", 0),
    ("flatten, dense 1024, dropout .5", "1024", 4_719_616),
    ("dense 2", "2", 2_050),
]
TOTAL = 5_008_674
PARTS = {
    "conv": ("Conv2d", "ReLU"),
    "max": ("MaxPool2d", "Dropout(p=0.25"),
    "flatten": ("Flatten", "Linear", "ReLU", "Dropout(p=0.5"),
    "dense": ("Linear",),
}


def test_cookpad_cnn_is_the_published_network_row_by_row():
    network = networks.build("cookpad-cnn", classes=2, height=64, width=64)
    rows = iter(summary.rows(network, height=64, width=64))

    for layer, output, parameters in PUBLISHED:
        parts = [next(rows) for _ in PARTS[layer.split()[0].rstrip(",")]]
        for part, kind in zip(parts, PARTS[layer.split()[0].rstrip(",")], strict=True):
            assert kind in part.layer
        assert parts[-1].output == output
        assert sum(part.parameters for part in parts) == parameters
        if layer.startswith("conv"):
            assert ("padding=(1, 1)" in parts[0].layer) == ("same" in layer)
    assert next(rows, None) is None
    assert sum(parameter.numel() for parameter in network.parameters()) == TOTAL


@pytest.mark.parametrize(("classes", "height", "width"), [(2, 64, 64), (7, 40, 96), (3, 22, 22)])
def test_it_takes_other_sizes_and_numbers_of_classes(classes, height, width):
    network = networks.build("cookpad-cnn", classes=classes, height=height, width=width).eval()

    assert network(torch.zeros(2, 3, height, width)).shape == (2, classes)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="cookpad-cnn"):
        networks.build("cookpad", classes=2, height=64, width=64)


@pytest.mark.parametrize(("classes", "size"), [(1, 64), (2, 21)])
def test_what_it_cannot_take_is_refused(classes, size):
    with pytest.raises(ValueError, match="at least"):
        networks.build("cookpad-cnn", classes=classes, height=size, width=size)


def test_fresh_weights_keep_the_spread_of_their_input():
    torch.manual_seed(0)
    network = networks.build("cookpad-cnn", classes=2, height=64, width=64).eval()

    with torch.inference_mode():
        deep = network[:-1](torch.randn(8, 3, 64, 64))
        answer = network[-1](deep)

    assert 0.2 < float(deep.std()) < 5
    assert float(answer.abs().max()) == 0
