"""Every image is held out once, and only held-out images are evaluated."""

import dataclasses
import itertools
import shutil
import types

import numpy as np
import pytest
import torch
from PIL import Image

from model.datasets import dataset
from model.preprocessing.decode import Preprocess
from model.training import crossvalidation, progress, recipe, trainer
from model.training import fit as fit_training

SERVING = Preprocess(24, 24)
ONE_EPOCH = recipe.Recipe(epochs=1)


def test_folds_are_disjoint_complete_and_stratified():
    targets = np.array([0] * 10 + [1] * 25)

    folds = crossvalidation.split(targets, 5, seed=3)

    assert sorted(np.concatenate(folds).tolist()) == list(range(35))
    for fold in folds:
        assert np.bincount(targets[fold]).tolist() == [2, 5]


@pytest.fixture
def trained_folds(monkeypatch):
    """Record the task of each fold; nothing is trained."""
    tasks = []

    def fit(task, _context):
        """Predict the true class of the training images and the first class for all others."""
        tasks.append(task)
        known = dict(zip(task.images.digests, task.images.targets, strict=True))
        predicted = [known.get(digest, 0) for digest in task.held_out.digests]
        return fit_training.FitResult(torch.nn.Identity(), torch.eye(3)[predicted][None] * 9)

    monkeypatch.setattr(fit_training, "fit", fit)
    return tasks


@pytest.fixture
def task(shapes_dir):
    images = dataset.read([shapes_dir], SERVING)
    return trainer.TrainingTask("all", torch.nn.Identity, images, None, SERVING, ONE_EPOCH, seed=0)


def test_no_image_is_evaluated_by_a_network_that_was_trained_on_it(task, trained_folds):
    result = crossvalidation.run(task, task.images, 4, trainer.RunContext())

    assert [len(fold.images) for fold in trained_folds] == [45] * 4
    assert all(set(fold.images.digests).isdisjoint(fold.held_out.digests) for fold in trained_folds)
    assert result.metric_values["accuracy"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert result.metric_values["folds"] == 4
    assert result.metric_values["count"] == 60
    assert result.metric_values["epoch"] == 1


def test_no_copy_of_an_evaluated_image_is_trained_on(task, trained_folds, shapes_dir, tmp_path):
    """One that was compressed again has other bytes and other pixels."""
    shutil.copytree(shapes_dir, tmp_path / "set")
    for path in list((tmp_path / "set").glob("*/1?.png")):
        Image.open(path).save(path.with_suffix(".jpg"), quality=98, subsampling=0)
    images = dataset.read([tmp_path / "set"], Preprocess(96, 96))

    crossvalidation.run(dataclasses.replace(task, images=images), images, 3, trainer.RunContext())

    for fold in trained_folds:
        evaluated = {path.with_suffix("") for path in fold.held_out.paths}
        assert evaluated.isdisjoint(path.with_suffix("") for path in fold.images.paths)


def test_a_class_whose_images_all_look_alike_is_split_with_a_warning(task, capsys):
    """The copies in other classes stay together."""
    circles, squares = (np.flatnonzero(task.images.targets == target) for target in (0, 1))
    pairs = np.array([*itertools.pairwise(circles), squares[:2]])

    folds = crossvalidation.split_apart(task.images, 5, 0, pairs, progress.LineReporter())

    assert "all images of circle look alike" in capsys.readouterr().err
    assert [np.bincount(task.images.targets[fold])[0] for fold in folds] == [4] * 5
    assert any(set(squares[:2]) <= set(fold) for fold in folds)


def test_a_figure_that_a_fold_does_not_have_is_left_out_of_the_mean():
    """The AUC of a fold with one class is not defined."""
    images = types.SimpleNamespace(targets=np.array([0, 0, 0, 1, 1, 0]), labels=("a", "b"))
    logits = np.random.default_rng(0).normal(size=(1, 6, 2))

    result = crossvalidation.evaluate_folds(logits, images, [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])])

    auc = result.metric_values["auc"]
    assert auc["each"][0] is None
    assert auc["mean"] == pytest.approx(np.mean(auc["each"][1:]))


def test_extra_images_are_trained_on_in_every_fold_and_never_evaluated(task, trained_folds):
    result = crossvalidation.run(dataclasses.replace(task, extra=task.images), task.images, 2, trainer.RunContext())

    assert all(fold.extra is task.images for fold in trained_folds)
    assert result.metric_values["count"] == 60


@pytest.mark.parametrize("folds", [1, 21, -2])
def test_an_impossible_number_of_folds_is_rejected(task, folds):
    with pytest.raises(dataset.InvalidDataset, match="--folds"):
        crossvalidation.run(task, task.images, folds, trainer.RunContext())


def test_each_fold_is_evaluated_at_the_best_epoch_of_the_other_folds(task):
    """Fold 0 is best at epoch 1, the other two at epoch 3: it must not choose for itself."""
    folds = crossvalidation.split(task.images.targets, 3, seed=0)
    right, wrong = np.eye(3)[task.images.targets] * 4, np.eye(3)[(task.images.targets + 1) % 3] * 4
    logits = np.stack([wrong, wrong, right, wrong])
    logits[0, folds[0]], logits[2, folds[0]] = right[folds[0]], wrong[folds[0]]

    result = crossvalidation.evaluate_folds(logits, task.images, folds)

    assert result.best == 2
    assert result.metric_values["accuracy"]["each"][0] == 0
