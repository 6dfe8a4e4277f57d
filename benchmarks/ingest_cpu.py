"""Ingest CPU: microseconds of the API's CPU per submitted image.

`python -m benchmarks.ingest_cpu`. An API with its Redis and database, but no worker, so that nothing else is in the
figures; a whole stack for submissions that wait for their result. CPU times are the kernel's. The kinds of requests
take turns in each round, all with bytes that are new; `x` is the median of the ratios to the first kind in one round,
and holds on a busy machine too. The time of a fixed loop is printed beside: figures are comparable only where it is.
"""

import argparse
import functools
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import bulk, cpu_probe, report, sample_images, single_image, stack

SINGLE_KINDS: dict[str, dict[str, Any]] = {
    "single, raw body": {},
    "single, multipart": {"form_field": "images"},
    "single, base64 in JSON": {"is_json": True},
}
FOLDER, FINISHED = "one of a folder", "single, with its result"


def measure_folder(server: stack.Stack, paths: list[Path], args: argparse.Namespace) -> float:
    """Measure a folder sent by `sortbelt enqueue --no-wait`, with bytes that no server has seen."""
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        files = bulk.make_fresh_folder(paths, Path(work_dir) / "folder", args.count, secrets.token_hex(4))
        command = [sys.executable, "-m", "sortbelt", "enqueue", str(files), "--fresh", "--no-wait", "--json"]
        before = server.usage()
        subprocess.run(command, env=server.environment, check=True, capture_output=True)
        cpu_us: float = server.usage().since(before)["api"] / args.count * 1e6
        return cpu_us


def measure_accepted(
    server: stack.Stack, paths: list[Path], bodies: list[bytes], args: argparse.Namespace
) -> dict[str, float]:
    """Measure each kind of request once, answered with a 202."""
    load = {"connections": args.connections, "seconds": args.seconds}
    values = {
        name: single_image.accepted(server, bodies, **load, **options).cpu_us["api"]
        for name, options in SINGLE_KINDS.items()
    }
    return values | {FOLDER: measure_folder(server, paths, args)}


def measure_finished(server: stack.Stack, bodies: list[bytes], args: argparse.Namespace) -> dict[str, float]:
    """Measure single images, answered with their result."""
    load = {"connections": args.connections, "seconds": args.seconds}
    return {FINISHED: single_image.finished(server, bodies, **load).cpu_us["api"]}


def measure_all(args: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, float]], float]]:
    """Measure on each database; yield (database, values by kind for each round, milliseconds of the fixed loop)."""
    paths = sample_images.find_or_draw(args.images, report.OUT / "images", args.drawn)
    bodies = [path.read_bytes() for path in paths]
    for database in args.databases:
        for is_whole in (False, True):
            with ExitStack() as exit_stack:
                url = exit_stack.enter_context(stack.postgres())[0] if database == "postgresql" else None
                server = exit_stack.enter_context(stack.up(url) if is_whole else stack.api_only(url))
                measure = functools.partial(measure_finished, server, bodies, args)
                measure = measure if is_whole else functools.partial(measure_accepted, server, paths, bodies, args)
                measure()  # warm
                with cpu_probe.CpuProbe() as probe:
                    rounds = [measure() for _ in range(args.rounds)]
                yield database, rounds, probe.median


def format_rows(database: str, rounds: list[dict[str, float]], loop_ms: float) -> Iterator[tuple[str, ...]]:
    """Yield a row for each kind: its median, its range, and its ratio to the first kind in the same round."""
    baseline = next(iter(rounds[0]))
    for name in rounds[0]:
        values = [values[name] for values in rounds]
        ratio = statistics.median(values[name] / values[baseline] for values in rounds)
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        yield (
            f"{name}, {database}",
            f"{statistics.median(values):,.0f}",
            spread,
            f"x {ratio:.2f}",
            f"loop {loop_ms:.1f} ms",
        )


def main(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    rows = [row for measured in measure_all(args) for row in format_rows(*measured)]
    report.save(
        [f"µs of the API's CPU, {args.connections} connections", *report.format_columns(rows)],
        args.out / "ingest_cpu.txt",
    )
    return 0


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_cpu", description=__doc__)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="use these JPEGs instead of drawn ones")
    parser.add_argument("--drawn", type=int, default=100, help="images to draw")
    parser.add_argument("--count", type=int, default=1000, help="images in the folder")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each load of single images")
    parser.add_argument("--connections", type=int, default=32, help="concurrent connections")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], help="databases to measure on")
    parser.add_argument("--out", type=Path, default=report.OUT, help="folder for the table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
