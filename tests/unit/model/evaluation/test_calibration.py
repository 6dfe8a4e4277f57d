"""Temperature scaling recovers a known scale."""

import numpy as np
import pytest

from model.evaluation import calibration, metrics


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_of_scaled_logits_is_their_scale(scale):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    probabilities = calibration.probabilities(logits, 1.0)
    targets = np.array([rng.choice(3, p=row) for row in probabilities])

    temperature = calibration.fit_temperature(logits * scale, targets)

    assert temperature == pytest.approx(scale, rel=0.1)
    assert metrics.calibration_error(calibration.probabilities(logits * scale, temperature), targets) < 0.03


def test_large_logits_do_not_overflow():
    assert calibration.probabilities(np.array([[1e4, -1e4]]), 0.1).tolist() == [[1.0, 0.0]]
