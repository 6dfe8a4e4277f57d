"""The goals: what the figures of one run are measured by, and whether each is reached."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench import names
from bench.figures import Board, Figure


@dataclass(frozen=True)
class Goal:
    """A figure, or the ratio of two, that shall not be on the wrong side of a number."""

    sentence: str
    figure: tuple[str, str]
    against: tuple[str, str] | None
    side: Literal["least", "most"]
    number: float

    def seen(self, board: Board) -> Figure | None:
        """What was measured, if it was."""
        figure = board.get(*self.figure)
        other = board.get(*self.against) if self.against else None
        if figure is None or (self.against and other is None):
            return None
        return figure.over(other) if other else figure

    def reached(self, seen: Figure) -> bool:
        """Whether the median is on the right side."""
        return seen.median >= self.number if self.side == "least" else seen.median <= self.number


def _single(name: str, callers: int = 32) -> tuple[str, str]:
    return names.single(callers), name


LIMIT = (names.BULK, names.LIMIT)
GOALS = (
    Goal("bulk, of the limit", (names.BULK, names.LATER), LIMIT, "least", 0.9),
    Goal("own CPU for each picture above the limit's", (names.CPU, names.OWN), None, "most", 100.0),
    Goal("the limit, of a plain loop", LIMIT, (names.BULK, names.PLAIN), "least", 2.0),
    Goal("labels as the plain loop's", (names.LABELS, names.LIMIT), None, "least", 99.5),
    Goal("finished singles, of mosec", _single(names.FINISHED), _single("mosec"), "least", 1.0),
    Goal("finished singles, of LitServe", _single(names.FINISHED), _single("LitServe"), "least", 2.0),
    Goal("finished singles, of BentoML", _single(names.FINISHED), _single("BentoML"), "least", 2.0),
    Goal("finished singles, of Flask + Celery", _single(names.FINISHED), _single(names.TUTORIAL), "least", 3.5),
    Goal("accepted singles, of Flask + Celery's", _single(names.ACCEPTED), _single(names.SUBMITTED), "least", 2.5),
    Goal("one caller: POST to result, p50", _single(f"{names.FINISHED} p50", 1), None, "most", 12.0),
)


def judged(board: Board) -> Iterator[tuple[Goal, Figure | None]]:
    """Each goal with what was measured."""
    for goal in GOALS:
        yield goal, goal.seen(board)
