"""Two jobs compared, picture by picture, on disk: which labels are not the same."""

import contextlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sortbelt import records

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """A picture that two jobs do not agree about; None for a label where there is none.

    Attributes:
        image: its name.
        kind: `changed`, `only in the first` or `only in the second`.
        before: the label in the first job, with its confidence.
        after: the label in the second job, with its confidence.
    """

    image: str
    kind: str
    before: tuple[str | None, float | None] = (None, None)
    after: tuple[str | None, float | None] = (None, None)


@dataclass
class Comparison:
    """Compares results by their images' names; `counts` tells how many of each kind there were."""

    counts: Counter[str] = field(default_factory=Counter)

    def differences(self, first: Iterable[records.Result], second: Iterable[records.Result]) -> Iterator[Difference]:
        """The differences, as they are found; what is alone in the first job comes last."""
        # A database without a name is a temporary file: two jobs of a million pictures are compared in little memory.
        with contextlib.closing(sqlite3.connect("", isolation_level=None)) as db:
            db.execute("CREATE TABLE first (image TEXT PRIMARY KEY, label TEXT, confidence REAL) WITHOUT ROWID")
            db.execute("BEGIN")
            rows = ((r.image, r.label, r.confidence) for r in first)
            while some := list(itertools.islice(rows, BATCH)):
                db.executemany("INSERT OR REPLACE INTO first VALUES (?, ?, ?)", some)
            yield from filter(None, (self._compared(db, result) for result in second))
            for image, label, confidence in db.execute("SELECT image, label, confidence FROM first ORDER BY image"):
                yield self._noted(Difference(image, "only in the first", before=(label, confidence)))

    def _compared(self, db: sqlite3.Connection, result: records.Result) -> Difference | None:
        query = "DELETE FROM first WHERE image = ? RETURNING label, confidence"
        known = db.execute(query, (result.image,)).fetchall()
        after = (result.label, result.confidence)
        if not known:
            return self._noted(Difference(result.image, "only in the second", after=after))
        if known[0][0] == result.label:
            self.counts["same"] += 1
            return None
        return self._noted(Difference(result.image, "changed", known[0], after))

    def _noted(self, difference: Difference) -> Difference:
        self.counts[difference.kind] += 1
        return difference
