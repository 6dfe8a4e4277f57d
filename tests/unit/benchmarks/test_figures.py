"""Spread, ratio and reference of figures."""

import pytest

from benchmarks.figures import BenchmarkResults, Figure


def test_a_figure_has_a_median_and_a_spread():
    """One slow round hardly changes the median."""
    figure = Figure("bulk", "contender", "images/s", [400.0, 90.0, 410.0])

    assert figure.median == 400.0
    assert figure.spread == (90.0, 410.0)


def test_a_ratio_is_taken_round_by_round():
    """A round that was slow for both does not change the ratio."""
    contender, upper_bound = (
        Figure("bulk", "contender", "images/s", [90.0, 9.0, 45.0]),
        Figure("bulk", "upper bound", "images/s", [100, 10, 50]),
    )

    ratio = contender.ratio_to(upper_bound)

    assert ratio.values == pytest.approx([0.9, 0.9, 0.9])
    assert ratio.name == "contender / upper bound"


def test_with_unequal_rounds_the_ratio_is_that_of_the_medians():
    """A contender that failed in one round can still be compared."""
    contender, upper_bound = (
        Figure("bulk", "contender", "images/s", [90.0, 80.0]),
        Figure("bulk", "upper bound", "images/s", [100, 100, 100]),
    )

    assert contender.ratio_to(upper_bound).values == [0.85]


def test_only_figures_of_the_same_unit_are_compared_with_the_reference():
    """There is no ratio of milliseconds to requests per second."""
    results = BenchmarkResults()
    results.add("single", "mosec", "requests/s", 100.0)
    results.add("single", "contender", "requests/s", 150.0)
    results.add("single", "contender p50", "ms", 12.0)
    results.references["single"] = results.get("single", "mosec")

    assert results.ratio(results.get("single", "contender")) == 1.5
    assert results.ratio(results.get("single", "contender p50")) is None


def test_a_skipped_measurement_is_reported_once():
    """It may be skipped in every round."""
    results = BenchmarkResults()
    for _ in range(3):
        results.skip("peers", "not installed")

    assert results.as_json()["skipped"] == [{"what": "peers", "why": "not installed"}]


def test_json_has_every_value_of_every_figure():
    """Readers can compute another spread from it."""
    results = BenchmarkResults()
    for value in (1.0, 3.0, 2.0):
        results.add("bulk", "contender", "images/s", value)

    (figure,) = results.as_json()["figures"]

    assert figure["values"] == [1.0, 3.0, 2.0]
    assert figure["median"] == 2.0
