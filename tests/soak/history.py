"""Submissions as the soak's client saw them, and their check, modelled on Jepsen's total-queue checker."""

import collections
import threading
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Totals:
    """Counts of images by outcome; `lost`, `duplicated`, `unexpected` and `stuck` must be 0.

    Attributes:
        attempted: sent to the API.
        acknowledged: part of a request that got a 202.
        ok: acknowledged, with exactly the one expected result.
        lost: acknowledged and no longer open, but without a result.
        duplicated: results beyond the first of an image.
        unexpected: results of images that were never sent, or with another outcome than expected.
        stuck: acknowledged, and still open at the end.
        recovered: finished although never acknowledged: the response was lost, not the image.
    """

    attempted: int
    acknowledged: int
    ok: int
    lost: int
    duplicated: int
    unexpected: int
    stuck: int
    recovered: int

    @property
    def is_ok(self) -> bool:
        """Whether every acknowledged image has exactly its expected result."""
        return self.lost == self.duplicated == self.unexpected == self.stuck == 0

    def __str__(self) -> str:
        return "  ".join(f"{name} {count:,}" for name, count in asdict(self).items())


@dataclass
class History:
    """Record of all submissions; written by many threads during the soak, checked at its end.

    Attributes:
        attempted: name → acceptable outcomes, labels or error codes.
        acknowledged: names of the images that got a 202.
        responses: (seconds since the start, duration in seconds, status or exception name) of every request.
    """

    attempted: dict[str, set[str]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    responses: list[tuple[float, float, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def attempt(self, names: dict[str, set[str]]) -> None:
        """Record images that are about to be sent, with their acceptable outcomes."""
        with self.lock:
            self.attempted |= names

    def acknowledge(self, names: list[str]) -> None:
        """Record images whose request got a 202."""
        with self.lock:
            self.acknowledged |= set(names)

    def check(self, results: list[tuple[str, str]], still_open: set[str]) -> tuple[Totals, list[str]]:
        """Compare the server's results with this history; return the totals and a message for each violation.

        Args:
            results: (name, label or error code) of every result on the server.
            still_open: names of the images that have not finished.
        """
        result_counts = collections.Counter(name for name, _ in results)
        unexpected_results = [
            (name, outcome) for name, outcome in results if outcome not in self.attempted.get(name, ())
        ]
        missing = {name for name in self.acknowledged if name not in result_counts}
        duplicates = {name: count for name, count in result_counts.items() if count > 1}
        bad_names = {name for name, _ in unexpected_results} | set(duplicates)
        totals = Totals(
            attempted=len(self.attempted),
            acknowledged=len(self.acknowledged),
            ok=sum(name in result_counts and name not in bad_names for name in self.acknowledged),
            lost=len(missing - still_open),
            duplicated=sum(count - 1 for count in duplicates.values()),
            unexpected=len(unexpected_results),
            stuck=len(missing & still_open),
            recovered=sum(
                name in self.attempted and name not in self.acknowledged and name not in bad_names
                for name in result_counts
            ),
        )
        violations = [
            f"{name} was {outcome}, not {sorted(self.attempted.get(name, ['anything']))}."
            for name, outcome in unexpected_results
        ]
        violations += [f"{name} has {count} results." for name, count in duplicates.items()]
        violations += [f"{name} is {'stuck' if name in still_open else 'lost'}." for name in sorted(missing)]
        return totals, violations
