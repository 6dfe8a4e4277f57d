"""What was trained with norms and a pooled dense layer is served as the published network, with the same answers."""

import copy

import pytest
import torch

from model import folding, networks


def trained(height=64, width=64, classes=2):
    """An unfolded network with the statistics and weights of a short life."""
    torch.manual_seed(0)
    network = folding.Unfolded(networks.build("cookpad-cnn", classes=classes, height=height, width=width))
    for weight in network.parameters():
        weight.data += 0.05 * torch.rand_like(weight)
    for _ in range(3):
        network(torch.randn(8, 3, height, width))
    return network.eval()


@pytest.mark.parametrize(("height", "width", "classes"), [(64, 64, 2), (30, 48, 5), (22, 22, 3)])
def test_folded_it_answers_as_before(height, width, classes):
    network = trained(height, width, classes)
    pictures = torch.randn(4, 3, height, width)

    with torch.inference_mode():
        torch.testing.assert_close(network.folded()(pictures), network(pictures), rtol=1e-4, atol=1e-4)


def test_folded_it_has_the_layers_of_the_published_network():
    plain = networks.build("cookpad-cnn", classes=2, height=64, width=64)
    folded = trained().folded()

    assert str(folded) == str(plain)
    assert {name: weight.shape for name, weight in folded.state_dict().items()} == {
        name: weight.shape for name, weight in plain.state_dict().items()
    }
    assert not folded.training


def test_it_starts_from_the_weights_of_the_fresh_network():
    plain = networks.build("cookpad-cnn", classes=2, height=64, width=64)

    network = folding.Unfolded(plain)

    assert torch.equal(network.layers[0][0].weight, plain[0].weight)
    assert sum(weight.numel() for weight in network.parameters()) < 500_000


def test_a_copy_folds_into_its_own_weights():
    network = trained()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.layers[-1].bias.add_(1)

    assert torch.equal(other.folded()[-1].bias, network.folded()[-1].bias + 1)
