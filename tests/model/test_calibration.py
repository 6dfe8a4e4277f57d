"""The temperature that makes confidence mean what it says."""

import numpy as np
import pytest

from model import calibration, metrics


@pytest.mark.parametrize("exaggerated", [0.5, 1.0, 3.0])
def test_an_exaggeration_of_known_size_is_found(exaggerated):
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3)) * 2
    honest = calibration.probabilities(logits, 1.0)
    targets = np.array([random.choice(3, p=row) for row in honest])

    found = calibration.temperature_for(logits * exaggerated, targets)

    assert found == pytest.approx(exaggerated, rel=0.1)
    assert metrics.calibration_error(calibration.probabilities(logits * exaggerated, found), targets) < 0.03


def test_large_logits_do_not_overflow():
    assert calibration.probabilities(np.array([[1e4, -1e4]]), 0.1).tolist() == [[1.0, 0.0]]
