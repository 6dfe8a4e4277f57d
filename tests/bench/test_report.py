"""The report and the goals."""

import json

import pytest

from bench import goals, names, report
from bench.figures import Board


@pytest.fixture
def board():
    """A run in which the bulk goal is missed."""
    made = Board()
    for ours, limit in ((400.0, 500.0), (420.0, 510.0), (380.0, 490.0)):
        made.add(names.BULK, names.LIMIT, "images/s", limit)
        made.add(names.BULK, names.LATER, "images/s", ours)
        made.add(f"{names.DETAILS}single", "api", "µs/request", 12.0)
    made.references[names.BULK] = made.get(names.BULK, names.LIMIT)
    made.skip("sortbelt, finished", "this server does not know it")
    return made


def test_the_table_has_each_figure_with_its_spread_and_ratio(board):
    """One line for each."""
    (line,) = [line for line in report.lines(board) if line.startswith(f"  {names.LATER}")]

    assert line.split()[-6:] == ["0.80", "x", "(380", "to", "420,", "n=3)"]


def test_the_table_says_what_was_not_measured_and_why(board):
    """Nothing is left out in silence."""
    text = "\n".join(report.lines(board))

    assert "sortbelt, finished  this server does not know it" in text


def test_details_are_in_the_json_only(board, tmp_path, capsys):
    """The table stays readable."""
    report.write(board, tmp_path)

    assert names.DETAILS not in capsys.readouterr().out
    assert any(
        f["group"].startswith(names.DETAILS) for f in json.loads((tmp_path / "bench.json").read_text())["figures"]
    )
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_goal_is_reached_or_missed_or_was_not_measured(board):
    """By the median of the ratio."""
    told = {goal.sentence: goal.reached(seen) if seen else None for goal, seen in goals.judged(board)}

    assert told["bulk, of the limit"] is False
    assert told["finished singles, of mosec"] is None
    board.add(names.single(32), names.FINISHED, "requests/s", 300.0)
    board.add(names.single(32), "mosec", "requests/s", 290.0)
    told = {goal.sentence: goal.reached(seen) if seen else None for goal, seen in goals.judged(board)}
    assert told["finished singles, of mosec"] is True


def test_columns_are_as_wide_as_their_widest():
    """The first to the left, the others to the right."""
    assert list(report.columns([("a", "1", "x"), ("bcd", "100", "y")])) == ["a      1  x", "bcd  100  y"]


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (99.96, "100"), (0.01234, "0.0123"), (0, "0")])
def test_numbers_have_three_digits(value, text):
    """More would be noise."""
    assert report.number(value) == text
