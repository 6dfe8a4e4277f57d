"""The training form with norms and a pooled dense layer folds into the published network with the same outputs."""

import copy

import pytest
import torch

from model.networks import batchnorm_folding, factory


def trained_network(height=64, width=64, classes=2):
    """Return a training form with statistics and weights of a few batches."""
    torch.manual_seed(0)
    network = batchnorm_folding.BatchNormTrainingForm(
        factory.build("cookpad-cnn", classes=classes, height=height, width=width)
    )
    for weight in network.parameters():
        weight.data += 0.05 * torch.rand_like(weight)
    for _ in range(3):
        network(torch.randn(8, 3, height, width))
    return network.eval()


@pytest.mark.parametrize(("height", "width", "classes"), [(64, 64, 2), (30, 48, 5), (22, 22, 3)])
def test_folding_does_not_change_the_logits(height, width, classes):
    network = trained_network(height, width, classes)
    images = torch.randn(4, 3, height, width)

    with torch.inference_mode():
        torch.testing.assert_close(network.fold()(images), network(images), rtol=1e-4, atol=1e-4)


def test_the_folded_network_has_the_published_layers():
    plain = factory.build("cookpad-cnn", classes=2, height=64, width=64)
    folded = trained_network().fold()

    assert str(folded) == str(plain)
    assert {name: weight.shape for name, weight in folded.state_dict().items()} == {
        name: weight.shape for name, weight in plain.state_dict().items()
    }
    assert not folded.training


def test_it_starts_from_the_weights_of_the_fresh_network():
    plain = factory.build("cookpad-cnn", classes=2, height=64, width=64)

    network = batchnorm_folding.BatchNormTrainingForm(plain)

    assert torch.equal(network.layers[0][0].weight, plain[0].weight)
    assert sum(weight.numel() for weight in network.parameters()) < 500_000


def test_a_copy_folds_into_its_own_weights():
    network = trained_network()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.layers[-1].bias.add_(1)

    assert torch.equal(other.fold()[-1].bias, network.fold()[-1].bias + 1)
