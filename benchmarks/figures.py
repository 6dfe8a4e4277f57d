"""Figures of one run, each with its spread, and as a ratio to a reference of the same run."""

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
        """The median."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return min(self.values), max(self.values)

    def ratio_to(self, other: "Figure") -> "Figure":
        """Return this figure as a multiple of another, round by round: noise of a whole round cancels out.

        Where a round of either is missing, return one ratio of the medians.
        """
        if len(self.values) == len(other.values) and all(other.values):
            values = [mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)]
        else:
            values = [self.median / other.median]
        return Figure(self.group, f"{self.name} / {other.name}", "x", values)


@dataclass(frozen=True)
class Skipped:
    """A measurement that was not made, and the reason."""

    what: str
    why: str


class BenchmarkResults:
    """All figures of a run, in the order of their first values."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], Figure] = {}
        self.skipped: list[Skipped] = []
        self.references: dict[str, Figure] = {}
        """By group: the figure to which the others are compared."""
        self.notes: dict[str, Any] = {}
        """Facts beside the figures: versions, settings that a search chose."""

    def add(self, group: str, name: str, unit: str, value: float) -> None:
        """Add one value to a figure."""
        self._figures.setdefault((group, name), Figure(group, name, unit)).values.append(value)

    def add_all(self, group: str, unit: str, values: Mapping[str, float], prefix: str = "") -> None:
        """Add one value to each of several figures of a group."""
        for name, value in values.items():
            self.add(group, prefix + name, unit, value)

    def skip(self, measurement: str, reason: str) -> None:
        """Record once that a measurement was not made."""
        if Skipped(measurement, reason) not in self.skipped:
            self.skipped.append(Skipped(measurement, reason))

    def note(self, topic: str, name: str, value: Any) -> None:
        """Record a fact."""
        self.notes.setdefault(topic, {})[name] = value

    def get(self, group: str, name: str) -> Figure | None:
        """Return a figure, or None if it was not measured."""
        return self._figures.get((group, name))

    def groups(self) -> Iterator[tuple[str, list[Figure]]]:
        """Yield the figures, group by group."""
        for group in dict.fromkeys(figure.group for figure in self._figures.values()):
            yield group, [figure for figure in self._figures.values() if figure.group == group]

    def ratio(self, figure: Figure) -> float | None:
        """Return a figure as a multiple of its group's reference, or None if the units differ."""
        reference = self.references.get(figure.group)
        is_comparable = reference is not None and reference.unit.endswith("/s") == figure.unit.endswith("/s")
        if reference is None or not is_comparable or not reference.median:
            return None
        return figure.ratio_to(reference).median

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        figures = [
            asdict(figure) | {"median": figure.median, "ratio": self.ratio(figure)}
            for _, entry in self.groups()
            for figure in entry
        ]
        references = {group: f"{figure.group}: {figure.name}" for group, figure in self.references.items()}
        skipped = [asdict(entry) for entry in self.skipped]
        return {**self.notes, "references": references, "figures": figures, "skipped": skipped}
