"""`python -m benchmarks`: compare Sortbelt, bare loops and other servers in one run, on the same images and model.

Each round measures every contender once; a figure is the median over the rounds, with its spread.
"""

import argparse
import importlib.metadata
import itertools
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import cpu_probe, figure_names, harness, report, rounds, sample_images
from benchmarks.figures import BenchmarkResults
from benchmarks.peers import serving

LIBRARIES = ("torch", "numpy", "pillow", "celery", "flask", "granian", "sqlalchemy", "httpx")


def main(args: argparse.Namespace) -> int:
    """Run all rounds and write the report; return 1 if any measurement failed."""
    results = BenchmarkResults()
    paths = sample_images.find_or_draw(args.images, report.OUT / "images", args.drawn)
    plan = rounds.Plan(paths, args.count, args.callers, args.seconds, args.runs)
    _describe(results, plan)
    expected_labels: list[str] = []
    chosen_settings: dict[str, serving.Settings] = {}
    failures = 0
    for number in range(plan.runs):
        current_round = rounds.Round(plan, results, number, expected_labels)
        measurements = [
            ("loops", current_round.measure_loops),
            ("sortbelt", current_round.measure_sortbelt),
            ("sortbelt on PostgreSQL", current_round.measure_postgresql),
        ]
        for name, measure in itertools.chain(
            measurements, current_round.peer_measurements(chosen_settings, search=not args.quick)
        ):
            failures += not _run_measurement(results, name, measure, number)
    if not serving.is_installed():
        results.skip("peers", serving.NOT_INSTALLED_MESSAGE)
    _choose_references(results)
    report.write(results, args.out)
    return 1 if failures else 0


def _run_measurement(results: BenchmarkResults, name: str, measure: Callable[[], None], number: int) -> bool:
    """Run one measurement of a round; report an exception as skipped, so that the others still run."""
    started = time.monotonic()
    probe = cpu_probe.CpuProbe()
    try:
        with probe:
            measure()
    except Exception as error:  # noqa: BLE001 (a peer may raise anything, and a run takes long)
        results.skip(f"{name}, round {number + 1}", f"{type(error).__name__}: {error}")
        return False
    finally:
        if probe.milliseconds:
            results.add(figure_names.MACHINE_SPEED, f"during: {name}", "ms", probe.median)
        _log(f"round {number + 1}: {name}, {time.monotonic() - started:.0f} s")
    return True


def _choose_references(results: BenchmarkResults) -> None:
    """Record the upper bound (the fastest bare loop) and choose the reference figure of each group."""
    groups = dict(results.groups())
    for group, choose in ((figure_names.BULK, max), (figure_names.LABEL_AGREEMENT, min)):
        bare_figures = [figure for figure in groups.get(group, ()) if figure.name.startswith("bare: ")]
        if bare_figures:
            bound = choose(bare_figures, key=lambda figure: figure.median)
            for value in bound.values:
                results.add(group, figure_names.UPPER_BOUND, bound.unit, value)
    limit = results.get(figure_names.BULK, figure_names.UPPER_BOUND)
    for group, figures in results.groups():
        reference = results.get(group, "mosec") or results.get(group, figure_names.UPPER_BOUND) or limit
        if reference and any(figure.unit.endswith("/s") or group == figure_names.BULK_CPU for figure in figures):
            results.references[group] = reference


def _describe(results: BenchmarkResults, plan: rounds.Plan) -> None:
    sizes = [path.stat().st_size for path in plan.paths]
    results.notes |= {
        "machine": {"processor": _processor(), "cores": harness.CORES, "python": platform.python_version()},
        "load average at the start": os.getloadavg(),
        "commit": _commit(),
        "versions": {library: importlib.metadata.version(library) for library in LIBRARIES},
        "images": {"files": len(sizes), "mean_bytes": sum(sizes) / len(sizes), "in_a_folder": plan.count},
        "plan": {"runs": plan.runs, "seconds": plan.seconds, "callers": list(plan.callers)},
    }
    _log(f"{len(sizes)} images of {sum(sizes) / len(sizes) / 1000:.0f} KB, {harness.CORES} cores, {plan.runs} rounds")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that every measurement runs")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="use these JPEGs instead of drawn ones")
    parser.add_argument("--out", type=Path, default=report.OUT, metavar="FOLDER", help="folder for the report")
    parser.add_argument("--runs", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--count", type=int, help="images per folder (2000; quick: 200)")
    parser.add_argument("--drawn", type=int, help="images to draw (500; quick: 50)")
    parser.add_argument("--seconds", type=float, help="duration of each load (8; quick: 3)")
    parser.add_argument(
        "--callers", type=int, nargs="+", help="numbers of concurrent connections (1 8 32 64; quick: 1 32)"
    )
    full = {"runs": 3, "count": 2000, "drawn": 500, "seconds": 8.0, "callers": [1, 8, 32, 64]}
    quick = {"runs": 1, "count": 200, "drawn": 50, "seconds": 3.0, "callers": [1, 32]}
    args = parser.parse_args()
    for name, value in (quick if args.quick else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that child processes are stopped
    sys.exit(main(_parse_args()))
