"""Figures: what was measured in one run, each with its spread, and as a ratio to the limit or to a peer of that run."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Figure:
    """One quantity, measured once in each round."""

    group: str
    name: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return min(self.values), max(self.values)

    def over(self, other: "Figure") -> "Figure":
        """This one as a multiple of another, round by round: what slowed a whole round down cancels out.

        Where a round of either is missing, as one ratio of the medians.
        """
        if len(self.values) == len(other.values) and all(other.values):
            values = [mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)]
        else:
            values = [self.median / other.median]
        return Figure(self.group, f"{self.name} / {other.name}", "x", values)


@dataclass(frozen=True)
class Skipped:
    """What was not measured, and why."""

    what: str
    why: str


class Board:
    """All figures of a run, in the order in which they first came."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], Figure] = {}
        self.skipped: list[Skipped] = []
        self.references: dict[str, Figure] = {}
        """By group: the figure that the others of the group are held against."""
        self.notes: dict[str, Any] = {}
        """Facts beside the figures: versions, settings that a search chose, agreement of labels."""

    def add(self, group: str, name: str, unit: str, value: float) -> None:
        """Note one more value of a figure."""
        self._figures.setdefault((group, name), Figure(group, name, unit)).values.append(value)

    def add_all(self, group: str, unit: str, values: Mapping[str, float], before: str = "") -> None:
        """Note one more value of several figures of a group."""
        for name, value in values.items():
            self.add(group, before + name, unit, value)

    def skip(self, what: str, why: str) -> None:
        """Note once that something was not measured."""
        if Skipped(what, why) not in self.skipped:
            self.skipped.append(Skipped(what, why))

    def note(self, topic: str, name: str, value: Any) -> None:
        """Note a fact."""
        self.notes.setdefault(topic, {})[name] = value

    def get(self, group: str, name: str) -> Figure | None:
        """A figure, if it was measured."""
        return self._figures.get((group, name))

    def groups(self) -> Iterator[tuple[str, list[Figure]]]:
        """The figures, group by group."""
        for group in dict.fromkeys(figure.group for figure in self._figures.values()):
            yield group, [figure for figure in self._figures.values() if figure.group == group]

    def ratio(self, figure: Figure) -> float | None:
        """A figure as a multiple of its group's reference, if that has the same unit."""
        reference = self.references.get(figure.group)
        alike = reference is not None and reference.unit.endswith("/s") == figure.unit.endswith("/s")
        if reference is None or not alike or not reference.median:
            return None
        return figure.over(reference).median

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        figures = [
            asdict(figure) | {"median": figure.median, "ratio": self.ratio(figure)}
            for _, some in self.groups()
            for figure in some
        ]
        references = {group: f"{figure.group}: {figure.name}" for group, figure in self.references.items()}
        skipped = [asdict(some) for some in self.skipped]
        return {**self.notes, "references": references, "figures": figures, "skipped": skipped}
