"""Networks are trained to their last epoch and combined into an ensemble."""

import dataclasses

import pytest
import torch

from model.datasets import dataset
from model.evaluation import logits
from model.networks import factory
from model.preprocessing.decode import Preprocess
from model.training import fit, progress, recipe, trainer
from model.training.augment import Augmentation

pytestmark = pytest.mark.slow

SERVING = Preprocess(24, 24, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CPU = torch.device("cpu")


def build():
    return factory.build("cookpad-cnn", classes=3, height=24, width=24)


@pytest.fixture(scope="module")
def task(shapes_dir):
    images = dataset.read([shapes_dir], dataclasses.replace(SERVING, width=48, height=48))
    used_recipe = recipe.Recipe(epochs=12, batch=12, mixup=0.0, augment=Augmentation(min_area=0.7))
    return trainer.TrainingTask("shapes", build, images, None, SERVING, used_recipe, seed=0)


@pytest.fixture(scope="module")
def served_dataset(shapes_dir):
    return dataset.read([shapes_dir], SERVING)


def with_options(task, **options):
    return dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, **options))


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_drawn_shapes_are_learned_far_above_chance(task, served_dataset, capsys):
    network = fit.fit(task, trainer.RunContext(reporter=progress.LineReporter())).network

    predicted = logits.compute_logits(network, served_dataset, SERVING, CPU).argmax(dim=1).numpy()
    assert (predicted == served_dataset.targets).mean() > 0.7
    assert not network.training
    log = capsys.readouterr().err.splitlines()
    assert log[-1].startswith("shapes: epoch 12/12, loss 0.")
    assert "epochs/s" in log[-1]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_the_same_seed_gives_the_same_weights(task, optimizer):
    short = with_options(task, epochs=2, optimizer=optimizer, cutmix=0.5)
    first, again, other = (
        fit.fit(dataclasses.replace(short, seed=seed), trainer.RunContext()).network for seed in (1, 1, 2)
    )

    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_evaluating_held_out_images_does_not_change_the_training(task, served_dataset):
    short = with_options(task, epochs=2)

    evaluated = fit.fit(dataclasses.replace(short, held_out=served_dataset), trainer.RunContext())

    assert same_weights(evaluated.network, fit.fit(short, trainer.RunContext()).network)
    assert evaluated.held_out.shape == (2, 60, 3)
    assert torch.equal(evaluated.held_out[-1], logits.compute_logits(evaluated.network, served_dataset, SERVING, CPU))


def test_an_ensemble_averages_the_logits_of_its_members_and_of_mirror_images(task, served_dataset):
    ensemble = with_options(dataclasses.replace(task, held_out=served_dataset), epochs=1, members=2, mirrored=True)
    first, second = (
        with_options(dataclasses.replace(task, seed=seed), epochs=1, members=1, mirrored=False) for seed in (0, 1)
    )

    fitted = fit.fit(ensemble, trainer.RunContext())

    singles = [fit.fit(single, trainer.RunContext()).network for single in (first, second)]
    images = torch.rand(4, 3, 24, 24)
    with torch.inference_mode():
        expected = sum(single(view) for single in singles for view in (images, images.flip(3))) / 4
        torch.testing.assert_close(fitted.network(images), expected)
    expected_held_out = logits.compute_logits(fitted.network, served_dataset, SERVING, CPU)
    torch.testing.assert_close(fitted.held_out[-1], expected_held_out, atol=1e-5, rtol=1e-4)


def test_a_training_may_stop_before_the_learning_rate_is_zero(task):
    short = with_options(task, epochs=4)

    stopped = fit.fit(dataclasses.replace(short, stop_epoch=2), trainer.RunContext()).network

    assert not same_weights(stopped, fit.fit(short, trainer.RunContext()).network)
    assert not same_weights(stopped, fit.fit(with_options(task, epochs=2), trainer.RunContext()).network)


def test_a_training_that_diverges_stops_and_says_what_to_do(task):
    with pytest.raises(trainer.TrainingDiverged, match="learning-rate"):
        fit.fit(with_options(task, learning_rate=float("inf"), epochs=3), trainer.RunContext())
