"""The loop learns, says how fast, and gives the same weights for the same seed."""

import dataclasses

import pytest
import torch

from model import crossvalidation, data, fitting
from model.augment import Augment
from model.manifest import Network
from model.preprocess import Preprocess

SERVED = Preprocess(24, 24, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
NETWORK = Network("cookpad-cnn", 3, 24, 24)
RECIPE = fitting.Recipe(epochs=12, batch=12, mixup=0, augment=Augment(min_area=0.7))


@pytest.fixture(scope="module")
def photos(shapes):
    return data.read([shapes], dataclasses.replace(SERVED, width=48, height=48))


def test_drawn_shapes_are_learned_far_above_chance(photos, shapes, capsys):
    network = fitting.fit(photos, NETWORK, SERVED, RECIPE, seed=0, title="shapes")

    served = data.read([shapes], SERVED)
    said = crossvalidation.logits_of(network, served.pixels, SERVED).argmax(axis=1)
    assert (said == served.targets).mean() > 0.7
    assert not network.training
    log = capsys.readouterr().err.splitlines()
    assert len(log) == RECIPE.epochs
    assert log[-1].startswith("shapes: epoch 12/12, loss 0.")
    assert "epochs/s" in log[-1]


def test_the_same_seed_gives_the_same_weights(photos):
    short = dataclasses.replace(RECIPE, epochs=2)
    first, again, other = (fitting.fit(photos, NETWORK, SERVED, short, seed, "seed").state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_training_that_diverges_stops_and_says_what_to_do(photos):
    wild = dataclasses.replace(RECIPE, learning_rate=float("inf"), epochs=3)

    with pytest.raises(fitting.Diverged, match="learning-rate"):
        fitting.fit(photos, NETWORK, SERVED, wild, 0, "wild")


def test_batches_hold_every_picture_once_in_a_new_order_each_epoch(photos):
    plain = dataclasses.replace(RECIPE, augment=Augment(1, 1, 0, 0, 0))
    batches = fitting.Batches(photos, SERVED, plain, torch.Generator().manual_seed(0))

    epochs = [torch.cat([targets for _, targets in batches]).argmax(dim=1) for _ in range(2)]

    assert len(batches) == 5
    for epoch in epochs:
        assert epoch.bincount().tolist() == [20, 20, 20]
    assert not torch.equal(*epochs)
