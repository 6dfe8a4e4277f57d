"""How fast a folder goes through the whole way, beside the bare loop over the same files in the same run.

`python bench/bulk.py [FOLDER] [RUNS]`. Without a folder it draws pictures. Prints both and their ratio.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "docs" / "examples")]

from bench import bare


def drawn(folder: Path) -> Path:
    """400 pictures of our own, about 36 KB each."""
    import draw

    draw.main(folder, 200)
    return folder


def enqueue(folder: Path, where: dict[str, str]) -> tuple[int, float]:
    """`sortbelt enqueue`: how many pictures, and in how many seconds from its start to its end."""
    started = time.perf_counter()
    command = ["sortbelt", "enqueue", str(folder), "--json"]
    out = subprocess.run(
        command, env={**os.environ, **where}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
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
            enqueue(folder, where)  # warm
            for _ in range(runs):
                for name, run in (
                    ("bare loop", lambda: bare.run(folder, cores)),
                    ("sortbelt enqueue", lambda: enqueue(folder, where)),
                ):
                    count, seconds = run()
                    rates[name].append(count / seconds)
            server.terminate()
    limit = statistics.median(rates["bare loop"])
    print(f"{count} pictures, {cores} cores, median of {runs} runs (lowest to highest)")
    for name, some in rates.items():
        print(
            f"{name:18} {statistics.median(some):6.0f} images/s  ({min(some):.0f} to {max(some):.0f})  {statistics.median(some) / limit:.2f} of the limit"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else drawn(Path(own)), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
