"""Statistics of reviews: unbiased whatever else was reviewed, with intervals that hold."""

import random
from types import SimpleNamespace

import pytest

from core import review_statistics
from core.db.queries import reviews


def review(model_label, label, probability=0.001, confidence=0.9, verdict=None):
    """Return a row of a review; without a label the verdict is given."""
    return SimpleNamespace(
        verdict=verdict or "label",
        label=label,
        draw_probability=probability,
        model_label=model_label,
        confidence=confidence,
    )


def summarize(rows):
    """Return the statistics of rows."""
    outcomes = [reviews.outcome_of(row.verdict, row.label, row.model_label) for row in rows]
    return review_statistics.summarize(rows, outcomes, ["random"] * len(rows))


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_is_wilsons(hits, count, low, high):
    """As published tables have it (Newcombe, 1998, for 81 of 263)."""
    found = review_statistics.wilson_interval(hits / count, count)
    assert found == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))


def test_targeted_reviews_do_not_move_the_estimate():
    """Sixty wrong labels that were looked for say nothing about the rest."""
    sample = [review("a", "a")] * 90 + [review("a", "b")] * 10
    targeted = [review("a", "b", probability=None)] * 60
    alone, together = summarize(sample), summarize(sample + targeted)
    assert alone.accuracy == together.accuracy
    assert alone.accuracy.value == pytest.approx(0.9)
    assert together.by_outcome == {"right": 90, "wrong": 70}
    assert [(c.model, c.review, c.count, c.in_sample) for c in together.confusions] == [("a", "b", 70, 10)]
    assert summarize(targeted).accuracy is None
    assert summarize(targeted).calibration_error is None


def test_the_rarer_a_draw_the_more_it_weighs():
    """An image that was drawn from twice as many stands for twice as many; the interval is wider for it."""
    found = summarize([review("a", "a", 0.01)] * 20 + [review("a", "b", 0.005)] * 10).accuracy
    assert found.value == pytest.approx(0.5)
    equal = summarize([review("a", "a")] * 15 + [review("a", "b")] * 15).accuracy
    assert found.high - found.low > equal.high - equal.low


def test_precision_recall_and_shares_of_hard_cases():
    """Bad images count for nothing but their own share; an image of no label lowers the precision."""
    rows = [review("a", "a")] * 6 + [review("a", "b")] * 2 + [review("b", "b")] * 3
    rows += [review("a", None, verdict="none_of_these")] * 4 + [review("b", None, verdict="bad_image")] * 5
    found = summarize(rows)
    assert found.accuracy.value == pytest.approx(9 / 15)
    assert found.none_of_these.value == pytest.approx(4 / 15)
    assert found.bad_image.value == pytest.approx(5 / 20)
    by_label = {one.label: one for one in found.classes}
    assert (by_label["a"].precision.value, by_label["a"].recall.value) == (pytest.approx(0.5), 1.0)
    assert (by_label["b"].precision.value, by_label["b"].recall.value) == (1.0, pytest.approx(0.6))
    assert found.confusions[0].review is None


def test_calibration_compares_confidence_with_accuracy():
    """A model that says 95 % and is right on half is off by 45 points."""
    rows = [review("a", "a", confidence=0.95), review("a", "b", confidence=0.95)]
    rows += [review("a", "a", confidence=1.0), review("a", "a", confidence=0.05)]
    found = summarize(rows)
    assert [(one.low, round(one.mean_confidence, 4)) for one in found.calibration] == [(0.0, 0.05), (0.9, 0.9667)]
    assert found.calibration_error == pytest.approx((0.95 * 1 + 3 * abs(2.9 / 3 - 2 / 3)) / 4)


def test_the_interval_holds_in_19_of_20_cases():
    """Of samples of 60 from a model that is right in 85 % of cases."""
    chance, hits = random.Random(1), 0  # noqa: S311 (not a secret)
    for _ in range(400):
        rows = [review("a", "a" if chance.random() < 0.85 else "b") for _ in range(60)]
        accuracy = summarize(rows).accuracy
        hits += accuracy.low <= 0.85 <= accuracy.high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize(("a", "b", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (8, 1, 0.0390625), (10, 10, 1.0)])
def test_a_difference_between_versions_is_tested_exactly(a, b, p):
    """By the binomial distribution of the images on which only one was right."""
    assert review_statistics.sign_test(a, b) == review_statistics.sign_test(b, a) == pytest.approx(p)
