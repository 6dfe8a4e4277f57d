"""What the client of a soak has seen, and the judgement on it, in the manner of Jepsen's total-queue checker."""

import collections
import threading
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Totals:
    """Every picture is in one of these; the last four of the first line must be 0.

    Attributes:
        attempted: was sent.
        acknowledged: was in a request that was answered with 202.
        ok: acknowledged, and has the one result that it should have.
        lost: acknowledged, its job has ended or is unknown, and it has no result.
        duplicated: results beyond the first of a picture.
        unexpected: results of what was never sent, or other than they should be.
        stuck: acknowledged, and still open at the end.
        recovered: never acknowledged, and yet done: the answer was lost, not the picture.
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
    def good(self) -> bool:
        """Whether every promise was kept."""
        return self.lost == self.duplicated == self.unexpected == self.stuck == 0

    def __str__(self) -> str:
        return "  ".join(f"{name} {count:,}" for name, count in asdict(self).items())


@dataclass
class History:
    """Written by many threads while the soak runs, judged at its end.

    Attributes:
        attempted: name → what may become of it: labels, or error codes.
        acknowledged: the names of what was promised.
        answers: (seconds since the start, seconds it took, status or exception) of every request.
    """

    attempted: dict[str, set[str]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    answers: list[tuple[float, float, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def attempt(self, names: dict[str, set[str]]) -> None:
        """Something is about to be sent."""
        with self.lock:
            self.attempted |= names

    def acknowledge(self, names: list[str]) -> None:
        """It was answered with 202."""
        with self.lock:
            self.acknowledged |= set(names)

    def judge(self, results: list[tuple[str, str]], still_open: set[str]) -> tuple[Totals, list[str]]:
        """The totals, and a sentence for each broken promise.

        Args:
            results: (name, label or error code) of every result that the server has.
            still_open: the names in jobs that have not ended.
        """
        seen = collections.Counter(name for name, _ in results)
        odd = [(name, what) for name, what in results if what not in self.attempted.get(name, ())]
        missing = {name for name in self.acknowledged if name not in seen}
        twice = {name: count for name, count in seen.items() if count > 1}
        bad = {name for name, _ in odd} | set(twice)
        totals = Totals(
            attempted=len(self.attempted),
            acknowledged=len(self.acknowledged),
            ok=sum(name in seen and name not in bad for name in self.acknowledged),
            lost=len(missing - still_open),
            duplicated=sum(count - 1 for count in twice.values()),
            unexpected=len(odd),
            stuck=len(missing & still_open),
            recovered=sum(
                name in self.attempted and name not in self.acknowledged and name not in bad for name in seen
            ),
        )
        said = [f"{name} was {what}, not {sorted(self.attempted.get(name, ['anything']))}." for name, what in odd]
        said += [f"{name} has {count} results." for name, count in twice.items()]
        said += [f"{name} is {'stuck' if name in still_open else 'lost'}." for name in sorted(missing)]
        return totals, said
