import math

import numpy as np

from model.inference import scoring

PROBABILITIES = np.array([[0.25, 0.75], [0.5, 0.5], [math.nan, 1]], np.float32)


def test_without_a_reference_the_familiarity_is_none():
    """A bundle without reference photos gives labels all the same."""
    first, _, broken = scoring.predictions(PROBABILITIES, ["a", "b"])
    assert first == {"label": "b", "confidence": 0.75, "scores": {"a": 0.25, "b": 0.75}, "familiarity": None}
    assert broken is None


def test_each_image_has_its_own_familiarity():
    """Rounded to four digits; NaN, which JSON does not have, is unknown."""
    familiarity = np.array([0.123456, math.nan, 1], np.float32)
    first, second, broken = scoring.predictions(PROBABILITIES, ["a", "b"], familiarity)
    assert (first["familiarity"], second["familiarity"], broken) == (0.1235, None, None)
