"""Every picture is held out once, and only those that were held out are judged."""

import dataclasses

import numpy as np
import pytest
import torch

from model import crossvalidation, data, fitting, recipe, training
from model.preprocess import Preprocess

SERVED = Preprocess(24, 24)
ONE = recipe.Recipe(epochs=1)


def test_parts_are_disjoint_complete_and_alike():
    targets = np.array([0] * 10 + [1] * 25)

    parts = crossvalidation.split(targets, 5, seed=3)

    assert sorted(np.concatenate(parts).tolist()) == list(range(35))
    for part in parts:
        assert np.bincount(targets[part]).tolist() == [2, 5]


@pytest.fixture
def seen(monkeypatch):
    """What each fold was trained on; nothing is really trained."""
    tasks = []

    def fit(task, _place):
        """Knows what it was trained on, and guesses the first class of everything else."""
        tasks.append(task)
        known = dict(zip(task.photos.digests, task.photos.targets, strict=True))
        said = [known.get(digest, 0) for digest in task.held_out.digests]
        return fitting.Fitted(torch.nn.Identity(), torch.eye(3)[said][None] * 9)

    monkeypatch.setattr(fitting, "fit", fit)
    return tasks


@pytest.fixture
def task(shapes):
    photos = data.read([shapes], SERVED)
    return training.Task("all", torch.nn.Identity, photos, None, SERVED, ONE, seed=0)


def test_no_picture_is_judged_by_a_network_that_was_trained_on_it(task, seen):
    result = crossvalidation.run(task, task.photos, 4, training.Place())

    assert [len(fold.photos) for fold in seen] == [45] * 4
    assert all(set(fold.photos.digests).isdisjoint(fold.held_out.digests) for fold in seen)
    assert result.figures["accuracy"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert result.figures["folds"] == 4
    assert result.figures["count"] == 60
    assert result.epoch == 1


def test_extra_pictures_are_trained_on_in_every_fold_and_never_judged(task, seen):
    result = crossvalidation.run(dataclasses.replace(task, extra=task.photos), task.photos, 2, training.Place())

    assert all(fold.extra is task.photos for fold in seen)
    assert result.figures["count"] == 60


@pytest.mark.parametrize("folds", [1, 21, -2])
def test_a_number_of_folds_that_cannot_be_is_refused(task, folds):
    with pytest.raises(data.BadData, match="--folds"):
        crossvalidation.run(task, task.photos, folds, training.Place())


def test_each_fold_is_judged_at_the_epoch_that_the_others_choose(task):
    """Fold 0 is best at epoch 1, the other two at epoch 3: it must not be allowed to choose for itself."""
    parts = crossvalidation.split(task.photos.targets, 3, seed=0)
    right, wrong = np.eye(3)[task.photos.targets] * 4, np.eye(3)[(task.photos.targets + 1) % 3] * 4
    logits = np.stack([wrong, wrong, right, wrong])
    logits[0, parts[0]], logits[2, parts[0]] = right[parts[0]], wrong[parts[0]]

    result = crossvalidation.judged(logits, task.photos, parts, epochs=4)

    assert result.epoch == 3
    assert result.figures["accuracy"]["each"][0] == 0
    assert result.figures["epoch"] == 3
