"""Memory: whether the worker and the API stay as they are over 100,000 pictures.

`python -m bench.memory --count 100000`: folders of small pictures, one after the other, through one stack; after each,
what its processes hold.
"""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from bench import bulk, pictures, report, stack

FOLDER = 5_000
SIDE = 96
WARM = 0.2  # of the pictures; from then on it must be flat
MOST = 1.05  # of what it was then
JUDGED = ("api", "worker")
OUT = Path(__file__).parent / "out"

Seen = dict[int, dict[str, float]]


def measure(count: int, folder: int) -> Seen:
    """Megabytes by role, by how many pictures there were by then."""
    seen: Seen = {}
    with stack.up() as server, tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        small = _small(Path(work) / "small")
        for number in range(count // folder):
            source = bulk.fresh(small, Path(work) / "now", folder, f"m{number:06}")
            done = bulk.enqueue(server, source)
            held = server.usage().rss_bytes
            seen[(number + 1) * folder] = {role: size / 1e6 for role, size in held.items()}
            print(f"{(number + 1) * folder:,}: {done.run.rate:.0f} images/s", file=sys.stderr, flush=True)
            shutil.rmtree(source)
    return seen


def _small(where: Path) -> list[Path]:
    """Drawn pictures, made small."""
    where.mkdir()
    paths = []
    for number in range(20):
        file = io.BytesIO(pictures.draw([pictures.SEED, number]))
        paths.append(where / f"{number}.jpg")
        Image.open(file).resize((SIDE, SIDE)).save(paths[-1], "JPEG", quality=85)
    return paths


def growth(seen: Seen, role: str) -> float:
    """The most that a role held after the warm-up, over what it held then."""
    counts = sorted(seen)
    warm = next(count for count in counts if count >= WARM * counts[-1])
    return max(seen[count][role] for count in counts if count >= warm) / seen[warm][role]


def lines(seen: Seen) -> Iterator[str]:
    """The table, and for each judged role whether it is flat."""
    roles = list(next(iter(seen.values())))
    rows: list[Sequence[str]] = [("images", *[f"{role}, MB" for role in roles], "")]
    rows += [(f"{count:,}", *[f"{held.get(role, 0):.1f}" for role in roles], "") for count, held in seen.items()]
    yield from report.columns(rows)
    for role in JUDGED:
        more = growth(seen, role)
        verdict = "flat" if more <= MOST else "it grows"
        yield f"{role}: at most x{more:.3f} of what it held after {WARM:.0%}: {verdict} (≤ x{MOST})"


def main(asked: argparse.Namespace) -> int:
    """Measure, and tell."""
    if asked.count < 2 * asked.folder:
        print(f"--count must be at least twice --folder, {2 * asked.folder:,}.", file=sys.stderr)
        return 2
    report.keep(lines(measure(asked.count, asked.folder)), asked.out / "memory.txt")
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="of pictures")
    parser.add_argument("--folder", type=int, default=FOLDER, help="of pictures in one folder")
    parser.add_argument("--out", type=Path, default=OUT, help="where the table goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
