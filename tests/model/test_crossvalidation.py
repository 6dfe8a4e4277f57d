"""Every picture is held out once, and only those that were held out are judged."""

import dataclasses

import numpy as np
import pytest

from model import crossvalidation, data, fitting
from model.manifest import Network
from model.preprocess import Preprocess

SERVED = Preprocess(24, 24)
NETWORK = Network("cookpad-cnn", 3, 24, 24)
RECIPE = fitting.Recipe(epochs=1)


def test_parts_are_disjoint_complete_and_alike():
    targets = np.array([0] * 10 + [1] * 25)

    parts = crossvalidation.split(targets, 5, seed=3)

    assert sorted(np.concatenate(parts).tolist()) == list(range(35))
    for part in parts:
        assert np.bincount(targets[part]).tolist() == [2, 5]


@pytest.fixture
def seen(monkeypatch):
    """What each fold was trained on; nothing is really trained."""
    trained = []

    class Oracle:
        """Knows what it was trained on, and guesses the first class of everything else."""

        def __init__(self, photos):
            self.known = {
                pixels.tobytes(): target for pixels, target in zip(photos.pixels, photos.targets, strict=True)
            }

    def fit(photos, *_):
        trained.append(set(photos.paths))
        return Oracle(photos)

    def logits_of(oracle, pixels, _):
        return np.eye(3)[[oracle.known.get(one.tobytes(), 0) for one in pixels]] * 9

    monkeypatch.setattr(fitting, "fit", fit)
    monkeypatch.setattr(crossvalidation, "logits_of", logits_of)
    return trained


def test_no_picture_is_judged_by_a_network_that_was_trained_on_it(shapes, seen):
    photos = data.read([shapes], SERVED)

    result = crossvalidation.run(photos, photos, None, NETWORK, SERVED, RECIPE, 4, 0)

    assert [len(paths) for paths in seen] == [45] * 4
    assert result.figures["accuracy"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert result.figures["folds"] == 4
    assert result.figures["count"] == 60


def test_extra_pictures_are_trained_on_in_every_fold_and_never_judged(shapes, seen):
    photos = data.read([shapes], SERVED)
    extra = dataclasses.replace(photos, paths=tuple(path.with_suffix(".extra") for path in photos.paths))

    result = crossvalidation.run(photos, photos, extra, NETWORK, SERVED, RECIPE, 2, 0)

    assert all(set(extra.paths) <= paths for paths in seen)
    assert result.figures["count"] == 60


@pytest.mark.parametrize("folds", [1, 21, -2])
def test_a_number_of_folds_that_cannot_be_is_refused(shapes, folds):
    photos = data.read([shapes], SERVED)

    with pytest.raises(data.BadData, match="--folds"):
        crossvalidation.run(photos, photos, None, NETWORK, SERVED, RECIPE, folds, 0)
