"""Memory: check that worker and API do not grow over 100,000 images.

`python -m benchmarks.memory --count 100000`: enqueue folders of small images, one after another, on one stack, and
record the resident memory of its processes after each.
"""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from benchmarks import bulk, report, sample_images, stack

FOLDER_SIZE = 5_000
SIDE = 96
WARMUP_SHARE = 0.2  # of the images; memory must be flat after these
MAX_GROWTH = 1.05  # of the memory after the warm-up
CHECKED_ROLES = ("api", "worker")

MemoryByCount = dict[int, dict[str, float]]


def measure(count: int, folder_size: int) -> MemoryByCount:
    """Return megabytes by role, after each number of images."""
    memory: MemoryByCount = {}
    with stack.up() as server, tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        small_images = _draw_small_images(Path(work_dir) / "small")
        for number in range(count // folder_size):
            folder_path = bulk.make_fresh_folder(small_images, Path(work_dir) / "now", folder_size, f"m{number:06}")
            result = bulk.enqueue(server, folder_path)
            rss_bytes = server.usage().rss_bytes
            memory[(number + 1) * folder_size] = {role: size / 1e6 for role, size in rss_bytes.items()}
            print(f"{(number + 1) * folder_size:,}: {result.run.rate:.0f} images/s", file=sys.stderr, flush=True)
            shutil.rmtree(folder_path)
    return memory


def _draw_small_images(target_dir: Path) -> list[Path]:
    """Draw images, scaled down."""
    target_dir.mkdir()
    paths = []
    for number in range(20):
        buffer = io.BytesIO(sample_images.draw_jpeg([sample_images.SEED, number]))
        paths.append(target_dir / f"{number}.jpg")
        Image.open(buffer).resize((SIDE, SIDE)).save(paths[-1], "JPEG", quality=85)
    return paths


def growth(memory: MemoryByCount, role: str) -> float:
    """Return a role's maximum after the warm-up, relative to its memory at the warm-up's end."""
    counts = sorted(memory)
    warm_count = next(count for count in counts if count >= WARMUP_SHARE * counts[-1])
    return max(memory[count][role] for count in counts if count >= warm_count) / memory[warm_count][role]


def lines(memory: MemoryByCount) -> Iterator[str]:
    """Yield the table, and for each checked role whether its memory is flat."""
    roles = list(next(iter(memory.values())))
    rows: list[Sequence[str]] = [("images", *[f"{role}, MB" for role in roles], "")]
    rows += [(f"{count:,}", *[f"{sizes.get(role, 0):.1f}" for role in roles], "") for count, sizes in memory.items()]
    yield from report.format_columns(rows)
    for role in CHECKED_ROLES:
        factor = growth(memory, role)
        verdict = "flat" if factor <= MAX_GROWTH else "growing"
        yield f"{role}: at most x{factor:.3f} of its memory after {WARMUP_SHARE:.0%}: {verdict} (≤ x{MAX_GROWTH})"


def main(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    if args.count < 2 * args.folder:
        print(f"--count must be at least twice --folder, {2 * args.folder:,}.", file=sys.stderr)
        return 2
    report.save(lines(measure(args.count, args.folder)), args.out / "memory.txt")
    return 0


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of images")
    parser.add_argument("--folder", type=int, default=FOLDER_SIZE, help="images per folder")
    parser.add_argument("--out", type=Path, default=report.OUT, help="folder for the table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
