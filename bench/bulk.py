"""How fast a folder goes through the whole way, beside the bare loop over the same files in the same run.

`python -m bench.bulk [FOLDER] [RUNS]`. Without a folder it draws pictures. Prints both, and their ratio.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import bare

DRAW = Path(__file__).parent.parent / "docs" / "examples" / "draw.py"


def enqueue(folder: Path, where: dict[str, str]) -> tuple[int, float]:
    """`sortbelt enqueue`: how many pictures, and in how many seconds from its start to its end."""
    started = time.perf_counter()
    command = ["sortbelt", "enqueue", str(folder), "--json"]
    out = subprocess.run(command, env={**os.environ, **where}, capture_output=True, check=False)
    counts = json.loads(out.stdout.splitlines()[-1])["counts"]
    return counts["total"], time.perf_counter() - started


def main(folder: Path, runs: int) -> None:
    """Alternate the two, so that both meet the same machine."""
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {"bare loop": [], "sortbelt enqueue": []}
    with tempfile.TemporaryDirectory() as data:
        command = ["sortbelt", "up", "--json", "--port", "0", "--data-dir", data]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            ready = json.loads(server.stdout.readline())
            where = {"SORTBELT_URL": ready["url"], "SORTBELT_KEY": ready["key"]}
            ways: dict[str, Callable[[], tuple[int, float]]] = {
                "bare loop": lambda: bare.run(folder, cores),
                "sortbelt enqueue": lambda: enqueue(folder, where),
            }
            count, _ = enqueue(folder, where)  # warm
            for _ in range(runs):
                for name, run in ways.items():
                    rates[name].append(count / run()[1])
            server.terminate()
    limit = statistics.median(rates["bare loop"])
    print(f"{count} pictures, {cores} cores, median of {runs} runs (lowest to highest)")
    for name, some in rates.items():
        middle = statistics.median(some)
        spread = f"({min(some):.0f} to {max(some):.0f})"
        print(f"{name:18} {middle:6.0f} images/s  {spread:14} {middle / limit:.2f} of the limit")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        if len(sys.argv) < 2:
            subprocess.run([sys.executable, DRAW, own, "200"], check=True)
        main(Path(sys.argv[1] if len(sys.argv) > 1 else own), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
