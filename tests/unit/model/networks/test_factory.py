"""Networks are built by name and take the sizes of their specs; unknown names are rejected."""

import pytest

from model.networks import factory
from model.packaging import manifest


@pytest.mark.parametrize("name", ["cookpad-cnn", "residual", "resnet18", "mobilenet_v3_small"])
def test_the_network_of_a_spec_is_built_and_takes_its_size(name):
    factory.check_input_sizes(manifest.NetworkSpec(name, 5, 64, 64, members=2, mirrored=True))


@pytest.mark.parametrize(
    ("network", "sides", "message"),
    [
        (
            manifest.NetworkSpec("cookpad-cnn", 2, 64, 64),
            [(48, 48)],
            "48 x 48: leave out sizes, it takes 64 x 64 only",
        ),
        (
            manifest.NetworkSpec("alexnet", 2, 40, 40),
            [],
            "alexnet cannot take images of 40 x 40: choose another --size",
        ),
        (manifest.NetworkSpec("resnet18", 2, 24, 24), [], "at least 32 x 32"),
        (manifest.NetworkSpec("vit_b_16", 2, 40, 40), [], "indivisible by patch size"),
    ],
)
def test_sizes_that_a_network_cannot_take_are_rejected(network, sides, message):
    with pytest.raises(ValueError, match=message):
        factory.check_input_sizes(network, sides)


def test_an_unknown_network_is_rejected_with_the_known_names():
    with pytest.raises(ValueError, match=r"'cookpad': use cookpad-cnn, residual, efficientnet-lite0, .*, or one of "):
        factory.build("cookpad", classes=2, height=64, width=64)
