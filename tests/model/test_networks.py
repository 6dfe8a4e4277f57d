"""The published network is rebuilt layer by layer; names that are unknown are refused."""

import dataclasses
import itertools

import pytest
import torch

from model import manifest, networks, summary

# What was published: layer, output of one picture, parameters.
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
    return networks.build("cookpad-cnn", classes=2, height=64, width=64)


def test_cookpad_cnn_is_the_published_network_row_by_row():
    network = cookpad_cnn()

    found = summary.rows(network, height=64, width=64)

    assert [dataclasses.astuple(row) for row in found] == PUBLISHED
    assert sum(parameter.numel() for parameter in network.parameters()) == TOTAL


def test_relu_follows_every_convolution_and_the_first_dense_layer():
    kinds = [type(layer).__name__ for layer in cookpad_cnn()]

    followed = [after for layer, after in itertools.pairwise(kinds) if layer in ("Conv2d", "Linear")]
    assert followed == ["ReLU"] * 7
    assert kinds[-1] == "Linear"


@pytest.mark.parametrize("name", ["cookpad-cnn", "residual", "resnet18", "mobilenet_v3_small"])
def test_what_a_manifest_describes_is_built_and_takes_its_size(name):
    networks.check(manifest.Network(name, 5, 64, 64, members=2, mirrored=True))


@pytest.mark.parametrize(
    ("network", "sides", "told"),
    [
        (
            manifest.Network("cookpad-cnn", 2, 64, 64),
            [(48, 48)],
            "48 x 48: it takes 64 x 64 only",
        ),
        (manifest.Network("alexnet", 2, 40, 40), [], "alexnet cannot take pictures of 40 x 40: choose another --size"),
        (manifest.Network("resnet18", 2, 24, 24), [], "at least 32 x 32"),
        (manifest.Network("vit_b_16", 2, 40, 40), [], "indivisible by patch size"),
    ],
)
def test_sizes_that_a_network_cannot_take_are_refused(network, sides, told):
    with pytest.raises(ValueError, match=told):
        networks.check(network, sides)


@pytest.mark.parametrize(("classes", "height", "width"), [(2, 64, 64), (7, 40, 96), (3, 22, 22)])
def test_it_takes_other_sizes_and_numbers_of_classes(classes, height, width):
    network = networks.build("cookpad-cnn", classes=classes, height=height, width=width).eval()

    assert network(torch.zeros(2, 3, height, width)).shape == (2, classes)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"cookpad-cnn, residual are ours; alexnet, .* are torchvision's"):
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
