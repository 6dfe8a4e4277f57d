"""`python -m bench`: everything side by side in one run, on the same pictures and the same model.

Each round measures every contender once; the figures are the median over the rounds, with their spread.
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

from bench import loop, names, pictures, report, rounds, yardstick
from bench.figures import Board
from bench.peers import serving

OUT = Path(__file__).parent / "out"
LIBRARIES = ("torch", "numpy", "pillow", "celery", "flask", "granian", "sqlalchemy", "httpx")


def main(asked: argparse.Namespace) -> int:
    """Measure, and write the report; 1 if anything broke."""
    board = Board()
    paths = pictures.found(asked.images) if asked.images else pictures.folder(OUT / "pictures", asked.drawn)
    plan = rounds.Plan(paths, asked.count, asked.callers, asked.seconds, asked.runs)
    _describe(board, plan)
    truth: list[str] = []
    chosen: dict[str, serving.Settings] = {}
    broken = 0
    for number in range(plan.runs):
        this = rounds.Round(plan, board, number, truth)
        parts = [("loops", this.loops), ("sortbelt", this.sortbelt), ("sortbelt on PostgreSQL", this.postgresql)]
        for name, part in itertools.chain(parts, this.peers(chosen, search=not asked.quick)):
            broken += not _tried(board, name, part, number)
    if not serving.installed():
        board.skip("peers", serving.NOT_THERE)
    _refer(board)
    report.write(board, asked.out)
    return 1 if broken else 0


def _tried(board: Board, name: str, part: Callable[[], None], number: int) -> bool:
    """Run one part of a round; what breaks is told in the report, and the others go on."""
    started = time.monotonic()
    machine = yardstick.Yardstick()
    try:
        with machine:
            part()
    except Exception as error:  # noqa: BLE001 (a peer may raise anything, and the run is long)
        board.skip(f"{name}, round {number + 1}", f"{type(error).__name__}: {error}")
        return False
    finally:
        if machine.milliseconds:
            board.add(names.MACHINE, f"during: {name}", "ms", machine.median)
        _tell(f"round {number + 1}: {name}, {time.monotonic() - started:.0f} s")
    return True


def _refer(board: Board) -> None:
    """Choose the limit, the fastest of the bare loops; and what each group is held against."""
    for group, figures in board.groups():
        bare = [figure for figure in figures if figure.name.startswith("bare: ")]
        if bare:
            best = max(bare, key=lambda figure: figure.median)
            for value in best.values if group == names.BULK else ():
                board.add(names.BULK, names.LIMIT, best.unit, value)
    agreed = [f for g, some in board.groups() if g == names.LABELS for f in some if f.name.startswith("bare: ")]
    for value in min(agreed, key=lambda figure: figure.median).values if agreed else ():
        board.add(names.LABELS, names.LIMIT, "%", value)
    limit = board.get(names.BULK, names.LIMIT)
    for group, figures in board.groups():
        found = board.get(group, "mosec") or board.get(group, names.LIMIT) or limit
        if found and any(figure.unit.endswith("/s") or group == names.CPU for figure in figures):
            board.references[group] = found


def _describe(board: Board, plan: rounds.Plan) -> None:
    sizes = [path.stat().st_size for path in plan.paths]
    board.notes |= {
        "machine": {"processor": _processor(), "cores": loop.CORES, "python": platform.python_version()},
        "load average at the start": os.getloadavg(),
        "commit": _commit(),
        "versions": {library: importlib.metadata.version(library) for library in LIBRARIES},
        "pictures": {"files": len(sizes), "mean_bytes": sum(sizes) / len(sizes), "in_a_folder": plan.count},
        "plan": {"runs": plan.runs, "seconds": plan.seconds, "callers": list(plan.callers)},
    }
    _tell(f"{len(sizes)} pictures of {sum(sizes) / len(sizes) / 1000:.0f} KB, {loop.CORES} cores, {plan.runs} rounds")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, which shows that all works")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="JPEGs of yours, instead of drawn ones")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where the report goes")
    parser.add_argument("--runs", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--count", type=int, help="pictures of one folder (2000; quick: 200)")
    parser.add_argument("--drawn", type=int, help="pictures to draw (500; quick: 50)")
    parser.add_argument("--seconds", type=float, help="of one load (8; quick: 3)")
    parser.add_argument("--callers", type=int, nargs="+", help="at once (1 8 32 64; quick: 1 32)")
    full = {"runs": 3, "count": 2000, "drawn": 500, "seconds": 8.0, "callers": [1, 8, 32, 64]}
    quick = {"runs": 1, "count": 200, "drawn": 50, "seconds": 3.0, "callers": [1, 32]}
    asked = parser.parse_args()
    for name, value in (quick if asked.quick else full).items():
        if getattr(asked, name) is None:
            setattr(asked, name, value)
    return asked


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else what is started would be left behind
    sys.exit(main(_asked()))
