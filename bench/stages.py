"""Stages: where a picture's time goes, in microseconds of CPU, for bulk and for single pictures.

`python -m bench.stages`. py-spy watches every process of a real stack while it works; what CPU each of their threads
took is the kernel's count, and is told apart by what py-spy saw them do: the innermost function of ours in each sample.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import bulk, pictures, processes, report, single, stack, yardstick
from bench.peers import serving

PY_SPY = serving.BIN / "py-spy"
HERTZ = 200
LEAST = 0.01  # of the whole: what is less goes under "other"
OURS = re.compile(r"(\w+) \(((?:api|jobs|model|sortbelt|worker)/[\w/]+)\.py")
THREAD = re.compile(r"thread \((\d+)\)(?:: (.*))?")
NO_PYTHON = "{name} (no Python)"
OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Watched:
    """What was seen of one process: CPU seconds by thread, and what its Python threads did, by samples."""

    role: str
    cpu: Mapping[int, float]
    names: Mapping[int, str]
    samples: Mapping[int, Counter[str]]

    def seconds(self) -> Counter[str]:
        """CPU seconds by what was done."""
        spent: Counter[str] = Counter()
        for thread, seconds in self.cpu.items():
            seen = self.samples.get(thread)
            if not seen:
                spent[NO_PYTHON.format(name=self.names[thread])] += seconds  # type: ignore[assignment]
                continue
            for what, count in seen.items():
                spent[what] += seconds * count / seen.total()  # type: ignore[assignment]
        return spent


def parsed(raw: str) -> dict[int, Counter[str]]:
    """Samples by thread and by the innermost function of ours, from py-spy's raw format."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for line in raw.splitlines():
        stack_, _, count = line.rpartition(" ")
        thread = THREAD.match(stack_)
        if thread is None:
            continue
        ours = OURS.findall(stack_)
        name = thread[2].partition(";")[0] if thread[2] else "a thread"
        what = f"{ours[-1][1]}.py {ours[-1][0]}" if ours else f"libraries ({re.sub(r'[-_]?[0-9]+$', '', name)})"
        found[int(thread[1])][what] += int(count)
    return found


@contextlib.contextmanager
def watching(server: stack.Stack) -> Iterator[list[Watched]]:
    """Watch all processes of a stack; the list is filled when it is over."""
    seen: list[Watched] = []
    with tempfile.TemporaryDirectory() as folder:
        watched = [process for root in server.roots for process in psutil.Process(root).children(recursive=True)]
        spies = {process: _spy(process.pid, Path(folder)) for process in watched if "python" in process.exe()}
        time.sleep(1.0)  # until all are attached
        before = {process: threads(process.pid) for process in watched}
        yield seen
        after = {process: threads(process.pid) for process in watched}
        for spy in spies.values():
            spy.send_signal(signal.SIGINT)
            spy.wait(30)
        for process in watched:
            raw = Path(folder, str(process.pid))
            samples = parsed(raw.read_text("utf-8")) if raw.exists() else {}
            cpu = {tid: used - before[process].get(tid, (0.0, ""))[0] for tid, (used, _) in after[process].items()}
            names = {tid: name for tid, (_, name) in after[process].items()}
            seen.append(Watched(processes.role_of(" ".join(process.cmdline()), "server"), cpu, names, samples))


def _spy(pid: int, folder: Path) -> "subprocess.Popen[bytes]":
    command = [str(PY_SPY), "record", "--pid", str(pid), "--threads", "--rate", str(HERTZ), "--format", "raw"]
    command += ["--duration", "unlimited", "--nonblocking", "--output", str(folder / str(pid))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def threads(pid: int) -> dict[int, tuple[float, str]]:
    """CPU seconds and name of each thread of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            text = (task / "stat").read_text(encoding="utf-8", errors="replace")
            name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            found[int(task.name)] = ((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), name)
    return found


def each(seen: list[Watched], count: int) -> dict[tuple[str, str], float]:
    """Microseconds of CPU for each of `count` pictures, by role and by what was done."""
    spent: Counter[tuple[str, str]] = Counter()
    for watched in seen:
        for what, seconds in watched.seconds().items():
            spent[watched.role, what] += seconds * 1e6 / count  # type: ignore[assignment]
    return dict(spent)


def lines(title: str, spent: Mapping[tuple[str, str], float]) -> Iterator[str]:
    """The table: the roles with their sums, and below each what it did."""
    whole = sum(spent.values())
    yield from ("", f"{title}: {whole:,.0f} µs of CPU for each picture")
    rows = []
    for role, total in Counter(_by_role(spent)).most_common():
        rows.append((f"  {role}", f"{total:,.0f}", f"{total / whole:.1%}", ""))
        parts = sorted(((used, what) for (of, what), used in spent.items() if of == role), reverse=True)
        shown = [(used, what) for used, what in parts if used >= LEAST * whole]
        rest = total - sum(used for used, _ in shown)
        rows += [(f"    {what}", f"{used:,.0f}", f"{used / whole:.1%}", "") for used, what in shown]
        if shown and rest >= 0.5:
            rows.append(("    other", f"{rest:,.0f}", f"{rest / whole:.1%}", ""))
    yield from report.columns(rows)


def _by_role(spent: Mapping[tuple[str, str], float]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for (role, _), used in spent.items():
        total[role] += used
    return total


def folder(server: stack.Stack, files: Path) -> Iterator[str]:
    """One folder in bulk."""
    with watching(server) as seen:
        done = bulk.enqueue(server, files)
    spent = each(seen, len(done.run.labels))
    samples = client(server, files)
    spent |= {("client", what): done.cpu_us["client"] * count / samples.total() for what, count in samples.items()}
    yield from lines("bulk", spent)


def client(server: stack.Stack, files: Path) -> Counter[str]:
    """What `sortbelt enqueue` does, by samples, in a run of its own that begins with its first import."""
    with tempfile.TemporaryDirectory() as work:
        raw = Path(work) / "raw"
        command = [str(PY_SPY), "record", "--threads", "--rate", str(HERTZ), "--format", "raw", "--output", str(raw)]
        command += ["--nonblocking", "--", sys.executable, "-m", "sortbelt", "enqueue", str(files), "--json"]
        subprocess.run(command, env=server.environment, check=True, capture_output=True)
        return sum(parsed(raw.read_text("utf-8")).values(), Counter())


def singles(
    server: stack.Stack, bodies: list[bytes], title: str, ask: Callable[..., single.Single], seconds: float
) -> Iterator[str]:
    """Single pictures by 32 callers."""
    with watching(server) as seen:
        done = ask(server, bodies, connections=32, seconds=seconds)
        server.settle()
    count = len(done.load.milliseconds)
    yield from lines(title, each(seen, count) | {("the load", "all of it"): done.load_cpu_us})


def main(asked: argparse.Namespace) -> int:
    """Measure, and print; 2 where there is no py-spy."""
    if not PY_SPY.exists():
        print(f"{PY_SPY} is not there: `make bench` installs it with the peers.", file=sys.stderr)
        return 2
    paths = pictures.found(asked.images) if asked.images else pictures.folder(OUT / "pictures", asked.drawn)
    bodies = [path.read_bytes() for path in paths]
    text: list[str] = []
    machine = yardstick.Yardstick()
    with machine, stack.up() as server, tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        bulk.enqueue(server, bulk.fresh(paths, Path(work) / "warm", asked.count // 4, "warm"))
        text += folder(server, bulk.fresh(paths, Path(work) / "now", asked.count, "now"))
        text += singles(server, bodies, "single, accepted and classified", single.accepted, asked.seconds)
        if single.knows_wait(server, bodies[0]):
            text += singles(server, bodies, "single, answered with the result", single.finished, asked.seconds)
    text += ["", f"A fixed loop took {machine.median:.1f} ms of CPU meanwhile (bench/yardstick.py)."]
    report.keep(text, asked.out / "stages.txt")
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="JPEGs of yours, instead of drawn ones")
    parser.add_argument("--drawn", type=int, default=500, help="pictures to draw")
    parser.add_argument("--count", type=int, default=2000, help="pictures of the folder")
    parser.add_argument("--seconds", type=float, default=8.0, help="of single pictures")
    parser.add_argument("--out", type=Path, default=OUT, help="where the table goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
