"""Optimizers follow the recipe, and their state can be restored."""

import pytest
import torch
from torch import nn

from model.training import optimizers, recipe


def network():
    torch.manual_seed(0)
    built = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 2))
    return built.to(memory_format=torch.channels_last)


def take_steps(built, built_optimizers, count):
    for number in range(count):
        torch.manual_seed(number)
        built.zero_grad()
        built(torch.randn(4, 3, 8, 8)).square().mean().backward()
        for optimizer in built_optimizers:
            optimizer.step()


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    rates = [optimizers.learning_rate(recipe.Recipe(learning_rate=1.0, warmup=0.2), step, 100) for step in range(100)]

    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.001


def test_without_warm_up_the_learning_rate_starts_at_its_peak():
    assert optimizers.learning_rate(recipe.Recipe(learning_rate=0.3, warmup=0.0), 0, 10) == 0.3


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_biases_and_norms_are_not_decayed(name):
    built = network()
    groups = [
        group
        for optimizer in optimizers.build(built, recipe.Recipe(optimizer=name, weight_decay=0.5))
        for group in optimizer.param_groups
    ]

    decayed = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {decayed[id(p)] for p in built.parameters() if p.ndim <= 1} == {0.0}
    assert {decayed[id(p)] for p in built.parameters() if p.ndim > 1} == {0.5}


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_a_restored_optimizer_makes_the_same_steps(name):
    used_recipe, built = recipe.Recipe(optimizer=name), network()
    built_optimizers = optimizers.build(built, used_recipe)
    take_steps(built, built_optimizers, 3)
    weights, state = built.state_dict(), optimizers.state_tensors(built_optimizers)
    weights, state = ({key: value.clone().contiguous() for key, value in each.items()} for each in (weights, state))

    other = network()
    other.load_state_dict(weights)
    restored = optimizers.build(other, used_recipe)
    optimizers.load_state_tensors(restored, state)
    take_steps(built, built_optimizers, 2)
    take_steps(other, restored, 2)

    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), other.parameters(), strict=True))


def test_the_running_average_forgets_the_first_weights_and_includes_buffers():
    built = network()
    average = optimizers.ema_model(built, recipe.Recipe(averaging=0.05), total_steps=1000)
    with torch.no_grad():
        for _ in range(1000):
            for parameter in built.parameters():
                parameter.fill_(1)
            built[2].running_mean.fill_(2)
            average.update_parameters(built)

    assert torch.allclose(average.module[1].weight, torch.ones(8, 8, 3, 3))
    assert torch.allclose(average.module[2].running_mean, torch.full((8,), 2.0))
