"""Networks are trained to their end, and answer as one."""

import dataclasses

import pytest
import torch

from model import answers, data, fitting, networks, progress, recipe, training
from model.augment import Augment
from model.preprocess import Preprocess

SERVED = Preprocess(24, 24, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CPU = torch.device("cpu")


def build():
    return networks.build("cookpad-cnn", classes=3, height=24, width=24)


@pytest.fixture(scope="module")
def task(shapes):
    photos = data.read([shapes], dataclasses.replace(SERVED, width=48, height=48))
    followed = recipe.Recipe(epochs=12, batch=12, mixup=0.0, augment=Augment(min_area=0.7))
    return training.Task("shapes", build, photos, None, SERVED, followed, seed=0)


@pytest.fixture(scope="module")
def served(shapes):
    return data.read([shapes], SERVED)


def changed(task, **options):
    return dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, **options))


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_drawn_shapes_are_learned_far_above_chance(task, served, capsys):
    network = fitting.fit(task, training.Place(watch=progress.Lines())).network

    said = answers.logits_of(network, served, SERVED, CPU).argmax(dim=1).numpy()
    assert (said == served.targets).mean() > 0.7
    assert not network.training
    log = capsys.readouterr().err.splitlines()
    assert log[-1].startswith("shapes: epoch 12/12, loss 0.")
    assert "epochs/s" in log[-1]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_the_same_seed_gives_the_same_weights(task, optimizer):
    short = changed(task, epochs=2, optimizer=optimizer, cutmix=0.5)
    first, again, other = (
        fitting.fit(dataclasses.replace(short, seed=seed), training.Place()).network for seed in (1, 1, 2)
    )

    assert same(first, again)
    assert not same(first, other)


def test_judging_held_out_pictures_changes_nothing(task, served):
    short = changed(task, epochs=2)

    judged = fitting.fit(dataclasses.replace(short, held_out=served), training.Place())

    assert same(judged.network, fitting.fit(short, training.Place()).network)
    assert judged.held_out.shape == (2, 60, 3)
    assert torch.equal(judged.held_out[-1], answers.logits_of(judged.network, served, SERVED, CPU))


def test_several_networks_answer_by_the_mean_of_their_logits_and_of_mirror_images(task, served):
    both = changed(dataclasses.replace(task, held_out=served), epochs=1, members=2, mirrored=True)
    one, two = (changed(dataclasses.replace(task, seed=seed), epochs=1, members=1, mirrored=False) for seed in (0, 1))

    fitted = fitting.fit(both, training.Place())

    singles = [fitting.fit(single, training.Place()).network for single in (one, two)]
    pictures = torch.rand(4, 3, 24, 24)
    with torch.inference_mode():
        expected = sum(single(view) for single in singles for view in (pictures, pictures.flip(3))) / 4
        torch.testing.assert_close(fitted.network(pictures), expected)
    whole = answers.logits_of(fitted.network, served, SERVED, CPU)
    torch.testing.assert_close(fitted.held_out[-1], whole, atol=1e-5, rtol=1e-4)


def test_a_training_may_end_before_its_learning_rate_does(task):
    short = changed(task, epochs=4)

    early = fitting.fit(dataclasses.replace(short, until=2), training.Place()).network

    assert not same(early, fitting.fit(short, training.Place()).network)
    assert not same(early, fitting.fit(changed(task, epochs=2), training.Place()).network)


def test_a_training_that_diverges_stops_and_says_what_to_do(task):
    with pytest.raises(training.Diverged, match="learning-rate"):
        fitting.fit(changed(task, learning_rate=float("inf"), epochs=3), training.Place())
