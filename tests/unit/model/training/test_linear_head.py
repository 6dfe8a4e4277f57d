"""A linear head is scikit-learn's logistic regression, folded into one layer."""

import numpy as np
import pytest
from sklearn import linear_model

from model.training import linear_head

RNG = np.random.default_rng(0)
NO_EXTRA = (np.empty((0, 6), np.float32), np.empty(0, np.int64))


def make_data(classes, count=60, shift=2.0):
    """Return features whose first values depend on the class."""
    targets = np.arange(count) % classes
    features = RNG.normal(5, 3, (count, 6)).astype(np.float32)
    features[np.arange(count), targets] += shift
    return linear_head.TrainingFeatures(features, targets, *NO_EXTRA)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_folded_head_gives_the_probabilities_of_the_regression(classes):
    """Centring, scaling and the one logit of two classes are included."""
    data = make_data(classes)
    mean, scale = data.features.mean(axis=0), np.sqrt(data.features.var(axis=0).mean())
    scaled = (data.features - mean) / scale
    expected = linear_model.LogisticRegression(C=0.1).fit(scaled, data.targets).predict_proba(scaled)

    logits = linear_head.fit(data, 0.1).logits(data.features)

    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)


def test_an_image_is_never_evaluated_by_a_head_that_was_fitted_on_it():
    """On noise, held-out predictions are not better than chance, but those of the fitted images are."""
    data = make_data(2, count=40, shift=0)
    wide = linear_head.TrainingFeatures(
        RNG.normal(size=(40, 200)).astype(np.float32),
        data.targets,
        np.empty((0, 200), np.float32),
        NO_EXTRA[1],
    )
    folds = [np.arange(20), np.arange(20, 40)]
    fits = []

    held_out = linear_head.held_out_logits(wide, folds, lambda: fits.append(1))

    assert len(fits) == 2 * len(linear_head.INVERSE_REGULARIZATIONS)
    assert (held_out[-1].argmax(axis=1) == wide.targets).mean() < 0.8
    assert (linear_head.fit(wide, 0.3).logits(wide.features).argmax(axis=1) == wide.targets).all()


def test_extra_images_count_less_than_those_of_the_data():
    """They pull the head towards their labels by a quarter of their number."""
    data = make_data(2, shift=20)
    opposite = linear_head.TrainingFeatures(data.features, data.targets, data.features, 1 - data.targets)

    predicted = linear_head.fit(opposite, 0.3).logits(data.features).argmax(axis=1)

    assert (predicted == data.targets).mean() > 0.9
