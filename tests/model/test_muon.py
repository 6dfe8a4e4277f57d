"""Muon turns the steps of convolutions into orthogonal ones, and leaves the rest to AdamW."""

import pytest
import torch
from torch import nn

from model import muon


def small():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16 * 64, 2)
    return nn.Sequential(*layers)


def stepped(network, optimizer):
    network(torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1)))[:, 0].square().sum().backward()
    optimizer.step()
    return network


@pytest.mark.parametrize("shape", [(16, 72), (72, 16), (5, 5)])
def test_orthogonalised_keeps_the_directions_and_levels_their_strengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    level = muon.orthogonalised(matrix)

    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    strengths = u.T @ level @ v.T
    assert 0.3 < float(strengths.diag().min()) <= float(strengths.diag().max()) < 1.3
    assert float((strengths - torch.diag(strengths.diag())).abs().max()) < 1e-3


def test_only_convolutions_behind_the_first_take_orthogonal_steps():
    network, plain = small(), small().state_dict()
    optimizer = muon.Muon(network, 0.01, 0)

    stepped(network, optimizer)

    step = (network[3].weight.detach() - plain["3.weight"]).flatten(1)
    strengths = torch.linalg.svdvals(step) / (0.01 * 0.2 * 72**0.5)
    assert 0.3 < float(strengths.min()) <= float(strengths.max()) < 1.3
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2, 5]


def test_the_rest_moves_as_with_adamw():
    network, reference = small(), small()
    ours = muon.Muon(network, 0.02, 0.05, rest=0.5)
    theirs = torch.optim.AdamW([reference[5].weight], lr=0.01, weight_decay=0.05)
    for _ in range(3):
        gradient = torch.randn(2, 16 * 64)
        network[5].weight.grad, reference[5].weight.grad = gradient, gradient.clone()
        ours.step()
        theirs.step()

    torch.testing.assert_close(network[5].weight, reference[5].weight)


def test_biases_and_norms_are_not_pulled_towards_zero():
    network = small()
    optimizer = muon.Muon(network, 0.01, 0.5)
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)

    optimizer.step()

    fresh = small().state_dict()
    for name, weight in network.named_parameters():
        assert torch.equal(weight, fresh[name]) == (weight.ndim <= 1)


def test_channels_last_weights_take_the_same_steps():
    one, other = small(), small().to(memory_format=torch.channels_last)
    for network in (one, other):
        stepped(network, muon.Muon(network, 0.01, 0.05))

    torch.testing.assert_close(one[3].weight, other[3].weight, rtol=1e-3, atol=1e-5)
