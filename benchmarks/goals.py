"""Goals for the figures of one run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks import figure_names
from benchmarks.figures import BenchmarkResults, Figure


@dataclass(frozen=True)
class Goal:
    """A bound on a figure, or on the ratio of two."""

    description: str
    figure: tuple[str, str]
    baseline: tuple[str, str] | None
    bound: Literal["least", "most"]
    threshold: float

    def measured(self, results: BenchmarkResults) -> Figure | None:
        """Return the measured figure or ratio, or None."""
        figure = results.get(*self.figure)
        baseline_figure = results.get(*self.baseline) if self.baseline else None
        if figure is None or (self.baseline and baseline_figure is None):
            return None
        return figure.ratio_to(baseline_figure) if baseline_figure else figure

    def is_reached(self, measured: Figure) -> bool:
        """Return whether the median meets the bound."""
        return measured.median >= self.threshold if self.bound == "least" else measured.median <= self.threshold


def _single_figure(name: str, callers: int = 32) -> tuple[str, str]:
    return figure_names.single_group(callers), name


UPPER_BOUND = (figure_names.BULK, figure_names.UPPER_BOUND)
GOALS = (
    Goal("bulk / upper bound", (figure_names.BULK, figure_names.LATER_FOLDER), UPPER_BOUND, "least", 0.9),
    Goal(
        "own CPU per image above the upper bound",
        (figure_names.BULK_CPU, figure_names.OVERHEAD),
        None,
        "most",
        100.0,
    ),
    Goal("upper bound / baseline loop", UPPER_BOUND, (figure_names.BULK, figure_names.PLAIN_LOOP), "least", 2.0),
    Goal(
        "labels that agree with the baseline",
        (figure_names.LABEL_AGREEMENT, figure_names.UPPER_BOUND),
        None,
        "least",
        99.5,
    ),
    Goal("finished singles / mosec", _single_figure(figure_names.FINISHED), _single_figure("mosec"), "least", 1.0),
    Goal(
        "finished singles / LitServe", _single_figure(figure_names.FINISHED), _single_figure("LitServe"), "least", 2.0
    ),
    Goal("finished singles / BentoML", _single_figure(figure_names.FINISHED), _single_figure("BentoML"), "least", 2.0),
    Goal(
        "finished singles / Flask + Celery",
        _single_figure(figure_names.FINISHED),
        _single_figure(figure_names.TUTORIAL),
        "least",
        3.5,
    ),
    Goal(
        "accepted singles / Flask + Celery",
        _single_figure(figure_names.ACCEPTED),
        _single_figure(figure_names.TUTORIAL_ACCEPTED),
        "least",
        2.5,
    ),
    Goal("one connection: POST to result, p50", _single_figure(f"{figure_names.FINISHED} p50", 1), None, "most", 12.0),
)


def evaluate_goals(results: BenchmarkResults) -> Iterator[tuple[Goal, Figure | None]]:
    """Yield each goal with its measured figure."""
    for goal in GOALS:
        yield goal, goal.measured(results)
