"""Muon orthogonalises the steps of convolutions; AdamW updates the other parameters."""

import dataclasses

import pytest
import torch
from torch import nn

from model.training import muon, optimizers, recipe

RECIPE = recipe.Recipe(optimizer="muon", learning_rate=0.01, weight_decay=0.0)


def small():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16 * 64, 2)
    return nn.Sequential(*layers)


def take_step(network, built):
    network(torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1)))[:, 0].square().sum().backward()
    for optimizer in built:
        optimizer.step()


@pytest.mark.parametrize("shape", [(16, 72), (72, 16), (5, 5)])
def test_newton_schulz_keeps_the_singular_vectors_and_levels_the_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    level = muon.zeropower_via_newton_schulz(matrix)

    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    strengths = u.T @ level @ v.T
    assert 0.3 < float(strengths.diag().min()) <= float(strengths.diag().max()) < 1.3
    assert float((strengths - torch.diag(strengths.diag())).abs().max()) < 1e-3


def test_only_convolutions_behind_the_first_take_orthogonal_steps():
    network, initial = small(), small().state_dict()
    convolutions, others = optimizers.build(network, RECIPE)

    take_step(network, [convolutions, others])

    step = (network[3].weight.detach() - initial["3.weight"]).flatten(1)
    strengths = torch.linalg.svdvals(step) / (0.01 * 0.2 * 72**0.5)
    assert 0.3 < float(strengths.min()) <= float(strengths.max()) < 1.3
    assert [len(group["params"]) for group in convolutions.param_groups] == [1]
    assert [len(group["params"]) for group in others.param_groups] == [2, 5]


def test_the_other_parameters_take_the_steps_of_adamw_at_half_the_rate():
    network, reference = small(), small()
    built = optimizers.build(network, dataclasses.replace(RECIPE, learning_rate=0.02, weight_decay=0.05))
    expected = torch.optim.AdamW([reference[5].weight], lr=0.01, weight_decay=0.05)
    for _ in range(3):
        gradient = torch.randn(2, 16 * 64)
        network[5].weight.grad, reference[5].weight.grad = gradient, gradient.clone()
        optimizers.set_learning_rate(built, 0.02)
        for optimizer in (*built, expected):
            optimizer.step()

    torch.testing.assert_close(network[5].weight, reference[5].weight)


def test_biases_and_norms_are_not_decayed():
    network = small()
    built = optimizers.build(network, dataclasses.replace(RECIPE, weight_decay=0.5))
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)

    for optimizer in built:
        optimizer.step()

    initial = small().state_dict()
    for name, weight in network.named_parameters():
        assert torch.equal(weight, initial[name]) == (weight.ndim <= 1)


def test_channels_last_weights_take_the_same_steps():
    first, second = small(), small().to(memory_format=torch.channels_last)
    for network in (first, second):
        take_step(network, optimizers.build(network, RECIPE))

    torch.testing.assert_close(first[3].weight, second[3].weight, rtol=1e-3, atol=1e-5)


def test_a_network_without_convolutions_is_left_to_adamw():
    (optimizer,) = optimizers.build(nn.Linear(4, 2), RECIPE)

    assert isinstance(optimizer, torch.optim.AdamW)
