"""Figures: spreads, ratios, references."""

import pytest

from bench.figures import Board, Figure


def test_a_figure_is_told_by_its_median_and_its_extremes():
    """One slow round does not move the median."""
    figure = Figure("bulk", "ours", "images/s", [400.0, 90.0, 410.0])

    assert figure.median == 400.0
    assert figure.spread == (90.0, 410.0)


def test_a_ratio_is_taken_round_by_round():
    """A round that was slow for both does not count against either."""
    ours, limit = (
        Figure("bulk", "ours", "images/s", [90.0, 9.0, 45.0]),
        Figure("bulk", "limit", "images/s", [100, 10, 50]),
    )

    ratio = ours.over(limit)

    assert ratio.values == pytest.approx([0.9, 0.9, 0.9])
    assert ratio.name == "ours / limit"


def test_a_ratio_of_unequal_rounds_is_that_of_the_medians():
    """A contender that broke in one round can still be compared."""
    ours, limit = Figure("bulk", "ours", "images/s", [90.0, 80.0]), Figure("bulk", "limit", "images/s", [100, 100, 100])

    assert ours.over(limit).values == [0.85]


def test_only_what_is_of_one_kind_is_held_against_the_reference():
    """Milliseconds are no multiple of requests a second."""
    board = Board()
    board.add("single", "mosec", "requests/s", 100.0)
    board.add("single", "ours", "requests/s", 150.0)
    board.add("single", "ours p50", "ms", 12.0)
    board.references["single"] = board.get("single", "mosec")

    assert board.ratio(board.get("single", "ours")) == 1.5
    assert board.ratio(board.get("single", "ours p50")) is None


def test_what_was_skipped_is_told_once():
    """However many rounds it was skipped in."""
    board = Board()
    for _ in range(3):
        board.skip("peers", "not installed")

    assert board.as_json()["skipped"] == [{"what": "peers", "why": "not installed"}]


def test_json_has_every_value_of_every_figure():
    """So that somebody else can compute another spread."""
    board = Board()
    for value in (1.0, 3.0, 2.0):
        board.add("bulk", "ours", "images/s", value)

    (figure,) = board.as_json()["figures"]

    assert figure["values"] == [1.0, 3.0, 2.0]
    assert figure["median"] == 2.0
