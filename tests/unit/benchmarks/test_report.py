"""The report and the goals of a run."""

import json

import pytest

from benchmarks import figure_names, goals, report
from benchmarks.figures import BenchmarkResults


@pytest.fixture
def sample_results():
    """A run in which the bulk goal is missed."""
    results = BenchmarkResults()
    for rate, upper_bound in ((400.0, 500.0), (420.0, 510.0), (380.0, 490.0)):
        results.add(figure_names.BULK, figure_names.UPPER_BOUND, "images/s", upper_bound)
        results.add(figure_names.BULK, figure_names.LATER_FOLDER, "images/s", rate)
        results.add(f"{figure_names.DETAILS_PREFIX}single", "api", "µs/request", 12.0)
    results.references[figure_names.BULK] = results.get(figure_names.BULK, figure_names.UPPER_BOUND)
    results.skip("sortbelt, finished", "not supported by this server")
    return results


def test_the_table_has_each_figure_with_its_spread_and_ratio(sample_results):
    """Each figure has one line."""
    (line,) = [line for line in report.lines(sample_results) if line.startswith(f"  {figure_names.LATER_FOLDER}")]

    assert line.split()[-6:] == ["0.80", "x", "(380", "to", "420,", "n=3)"]


def test_the_table_lists_skipped_measurements_with_their_reason(sample_results):
    """Nothing is left out silently."""
    text = "\n".join(report.lines(sample_results))

    assert "sortbelt, finished  not supported by this server" in text


def test_details_are_only_in_the_json(sample_results, tmp_path, capsys):
    """The table stays readable."""
    report.write(sample_results, tmp_path)

    assert figure_names.DETAILS_PREFIX not in capsys.readouterr().out
    assert any(
        f["group"].startswith(figure_names.DETAILS_PREFIX)
        for f in json.loads((tmp_path / "bench.json").read_text())["figures"]
    )
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_goal_is_reached_or_missed_or_was_not_measured(sample_results):
    """The median of the ratio decides."""
    reached = {
        goal.description: goal.is_reached(measured) if measured else None
        for goal, measured in goals.evaluate_goals(sample_results)
    }

    assert reached["bulk / upper bound"] is False
    assert reached["finished singles / mosec"] is None
    sample_results.add(figure_names.single_group(32), figure_names.FINISHED, "requests/s", 300.0)
    sample_results.add(figure_names.single_group(32), "mosec", "requests/s", 290.0)
    reached = {
        goal.description: goal.is_reached(measured) if measured else None
        for goal, measured in goals.evaluate_goals(sample_results)
    }
    assert reached["finished singles / mosec"] is True


def test_columns_are_as_wide_as_their_widest_cell():
    """The first column is aligned left, the others right."""
    assert list(report.format_columns([("a", "1", "x"), ("bcd", "100", "y")])) == ["a      1  x", "bcd  100  y"]


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (99.96, "100"), (0.01234, "0.0123"), (0, "0")])
def test_numbers_have_three_significant_digits(value, text):
    """More would be noise."""
    assert report.format_number(value) == text
