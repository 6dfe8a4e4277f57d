"""The door: what a picture that is taken in costs the API, in microseconds of its CPU.

`python -m bench.door`. An API of its own, with its Redis and its database and no worker beside it, so that nothing else
is in the figures; and a whole stack for pictures that are answered with their result. CPU is the kernel's count; beside
each stands what a fixed loop took meanwhile, for where that differs they cannot be compared.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import bulk, pictures, report, single, stack, yardstick

OUT = Path(__file__).parent / "out"


def accepted(server: stack.Stack, bodies: list[bytes], asked: argparse.Namespace) -> float:
    """Single pictures, answered 202."""
    return single.accepted(server, bodies, connections=asked.connections, seconds=asked.seconds).cpu_us["api"]


def finished(server: stack.Stack, bodies: list[bytes], asked: argparse.Namespace) -> float:
    """Single pictures, answered with their result by whoever classifies them."""
    return single.finished(server, bodies, connections=asked.connections, seconds=asked.seconds).cpu_us["api"]


def folder(server: stack.Stack, paths: list[Path], asked: argparse.Namespace) -> float:
    """A folder by `sortbelt enqueue`, which does not wait for the end."""
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        files = bulk.fresh(paths, Path(work) / "folder", asked.count, "door")
        command = [sys.executable, "-m", "sortbelt", "enqueue", str(files), "--fresh", "--no-wait", "--json"]
        before = server.usage()
        subprocess.run(command, env=server.environment, check=True, capture_output=True)
        return server.usage().since(before)["api"] / asked.count * 1e6


def measured(asked: argparse.Namespace) -> Iterator[tuple[str, list[float], float]]:
    """Each kind of order on each database, several times; and the milliseconds of a fixed loop meanwhile."""
    paths = pictures.found(asked.images) if asked.images else pictures.folder(OUT / "pictures", asked.drawn)
    bodies = [path.read_bytes() for path in paths]
    kinds: dict[str, Callable[[stack.Stack], float]] = {
        "single, 202": lambda server: accepted(server, bodies, asked),
        "single, with its result": lambda server: finished(server, bodies, asked),
        "one of a folder": lambda server: folder(server, paths, asked),
    }
    for name, kind in kinds.items():
        for database in asked.databases:
            with ExitStack() as all_:
                url = all_.enter_context(stack.postgres())[0] if database == "postgresql" else None
                opened = stack.up(url) if kind is kinds["single, with its result"] else stack.door(url)
                server = all_.enter_context(opened)
                kind(server)  # warm
                with yardstick.Yardstick() as machine:
                    values = [kind(server) for _ in range(asked.rounds)]
                yield f"{name}, {database}", values, machine.median


def main(asked: argparse.Namespace) -> int:
    """Measure, and print."""
    rows = [
        (
            name,
            f"{statistics.median(values):,.0f}",
            f"({min(values):,.0f} to {max(values):,.0f})",
            f"loop {loop:.1f} ms",
        )
        for name, values, loop in measured(asked)
    ]
    report.keep([f"µs of the API's CPU, {asked.connections} callers", *report.columns(rows)], asked.out / "door.txt")
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.door", description=__doc__)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="JPEGs of yours, instead of drawn ones")
    parser.add_argument("--drawn", type=int, default=100, help="pictures to draw")
    parser.add_argument("--count", type=int, default=1000, help="pictures of the folder")
    parser.add_argument("--seconds", type=float, default=5.0, help="of single pictures")
    parser.add_argument("--connections", type=int, default=32, help="callers at once")
    parser.add_argument("--rounds", type=int, default=3, help="of each")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], help="on which")
    parser.add_argument("--out", type=Path, default=OUT, help="where the table goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
