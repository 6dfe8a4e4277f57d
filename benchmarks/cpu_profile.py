"""CPU profile: microseconds of CPU per image, by function, for bulk and for single images.

`python -m benchmarks.cpu_profile`. py-spy samples every process of a real stack under load. The kernel's CPU time of
each thread is divided by these samples: each counts for the innermost function of this repository on the stack.
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

from benchmarks import bulk, cpu_probe, process_usage, report, sample_images, single_image, stack
from benchmarks.peers import serving

PY_SPY = serving.BIN / "py-spy"
SAMPLE_HERTZ = 200
MIN_SHARE = 0.01  # of the total: functions below it are summed up as "other"
OWN_FRAME_PATTERN = re.compile(r"(\w+) \(((?:api|core|dispatcher|model|sortbelt|worker)/[\w/]+)\.py")
THREAD_PATTERN = re.compile(r"thread \((\d+)\)(?:: (.*))?")
PY_SPY_OPTIONS = ("--threads", "--rate", str(SAMPLE_HERTZ), "--format", "raw", "--nonblocking", "--output")
NO_PYTHON_LABEL = "{name} (no Python)"


@dataclass(frozen=True)
class ProcessProfile:
    """Profile of one process: CPU seconds and samples by thread."""

    role: str
    cpu_seconds: Mapping[int, float]
    thread_names: Mapping[int, str]
    samples: Mapping[int, Counter[str]]

    def seconds_by_function(self) -> Counter[str]:
        """Return CPU seconds by function."""
        totals: Counter[str] = Counter()
        for thread, seconds in self.cpu_seconds.items():
            thread_samples = self.samples.get(thread)
            if not thread_samples:
                totals[NO_PYTHON_LABEL.format(name=self.thread_names[thread])] += seconds  # type: ignore[assignment]
                continue
            for function, count in thread_samples.items():
                totals[function] += seconds * count / thread_samples.total()  # type: ignore[assignment]
        return totals


def parse_samples(raw: str) -> dict[int, Counter[str]]:
    """Parse py-spy's raw format into samples by thread and innermost function of this repository."""
    samples: dict[int, Counter[str]] = defaultdict(Counter)
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        thread = THREAD_PATTERN.match(frames)
        if thread is None:
            continue
        own_frames = OWN_FRAME_PATTERN.findall(frames)
        name = thread[2].partition(";")[0] if thread[2] else "a thread"
        function = (
            f"{own_frames[-1][1]}.py {own_frames[-1][0]}"
            if own_frames
            else f"libraries ({re.sub(r'[-_]?[0-9]+$', '', name)})"
        )
        samples[int(thread[1])][function] += int(count)
    return samples


@contextlib.contextmanager
def profile_processes(server: stack.Stack) -> Iterator[list[ProcessProfile]]:
    """Profile all processes of a stack during the block; the list is filled at its end."""
    profiles: list[ProcessProfile] = []
    with tempfile.TemporaryDirectory() as folder:
        targets = [process for root in server.root_pids for process in psutil.Process(root).children(recursive=True)]
        profilers = {
            process: _start_profiler(process.pid, Path(folder)) for process in targets if "python" in process.exe()
        }
        time.sleep(1.0)  # until every profiler is attached
        before = {process: read_thread_cpu(process.pid) for process in targets}
        yield profiles
        after = {process: read_thread_cpu(process.pid) for process in targets}
        for profiler in profilers.values():
            profiler.send_signal(signal.SIGINT)
            profiler.wait(30)
        for process in targets:
            raw_file = Path(folder, str(process.pid))
            samples = parse_samples(raw_file.read_text("utf-8")) if raw_file.exists() else {}
            cpu = {tid: used - before[process].get(tid, (0.0, ""))[0] for tid, (used, _) in after[process].items()}
            names = {tid: name for tid, (_, name) in after[process].items()}
            profiles.append(
                ProcessProfile(process_usage.role_of(" ".join(process.cmdline()), "server"), cpu, names, samples)
            )


def _start_profiler(pid: int, folder: Path) -> "subprocess.Popen[bytes]":
    command = [str(PY_SPY), "record", "--pid", str(pid), "--duration", "unlimited"]
    command += [*PY_SPY_OPTIONS, str(folder / str(pid))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read_thread_cpu(pid: int) -> dict[int, tuple[float, str]]:
    """Return CPU seconds and name of each thread of a process, by thread id."""
    cpu_by_thread = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            text = (task / "stat").read_text(encoding="utf-8", errors="replace")
            name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            cpu_by_thread[int(task.name)] = ((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), name)
    return cpu_by_thread


def cpu_per_image(profiles: list[ProcessProfile], count: int) -> dict[tuple[str, str], float]:
    """Return microseconds of CPU per image, by role and function."""
    totals: Counter[tuple[str, str]] = Counter()
    for profile in profiles:
        for function, seconds in profile.seconds_by_function().items():
            totals[profile.role, function] += seconds * 1e6 / count  # type: ignore[assignment]
    return dict(totals)


def lines(title: str, totals: Mapping[tuple[str, str], float]) -> Iterator[str]:
    """Yield the table: the roles with their sums, and below each its functions."""
    overall = sum(totals.values())
    yield from ("", f"{title}: {overall:,.0f} µs of CPU per image")
    rows = []
    for role, total in Counter(_by_role(totals)).most_common():
        rows.append((f"  {role}", f"{total:,.0f}", f"{total / overall:.1%}", ""))
        functions = sorted(
            ((used, function) for (function_role, function), used in totals.items() if function_role == role),
            reverse=True,
        )
        shown = [(used, function) for used, function in functions if used >= MIN_SHARE * overall]
        rest = total - sum(used for used, _ in shown)
        rows += [(f"    {function}", f"{used:,.0f}", f"{used / overall:.1%}", "") for used, function in shown]
        if shown and rest >= 0.5:
            rows.append(("    other", f"{rest:,.0f}", f"{rest / overall:.1%}", ""))
    yield from report.format_columns(rows)


def _by_role(totals: Mapping[tuple[str, str], float]) -> dict[str, float]:
    role_totals: dict[str, float] = defaultdict(float)
    for (role, _), used in totals.items():
        role_totals[role] += used
    return role_totals


def profile_folder(server: stack.Stack, files: Path) -> Iterator[str]:
    """Profile one folder in bulk."""
    with profile_processes(server) as profiles:
        result = bulk.enqueue(server, files)
    totals = cpu_per_image(profiles, len(result.run.labels))
    samples = profile_client(server, files)
    totals |= {
        ("client", function): result.cpu_us["client"] * count / samples.total() for function, count in samples.items()
    }
    yield from lines("bulk", totals)


def profile_client(server: stack.Stack, files: Path) -> Counter[str]:
    """Sample one extra run of `sortbelt enqueue`, from its first import on."""
    with tempfile.TemporaryDirectory() as work_dir:
        raw_file = Path(work_dir) / "raw"
        command = [sys.executable, "-m", "sortbelt", "enqueue", str(files), "--json"]
        command = [str(PY_SPY), "record", *PY_SPY_OPTIONS, str(raw_file), "--", *command]
        subprocess.run(command, env=server.environment, check=True, capture_output=True)
        return sum(parse_samples(raw_file.read_text("utf-8")).values(), Counter())


def profile_singles(
    server: stack.Stack,
    bodies: list[bytes],
    title: str,
    measure: Callable[..., single_image.SingleImageResult],
    seconds: float,
) -> Iterator[str]:
    """Profile submissions of single images over 32 connections."""
    with profile_processes(server) as profiles:
        result = measure(server, bodies, connections=32, seconds=seconds)
        server.wait_until_idle()
    count = len(result.load.milliseconds)
    yield from lines(title, cpu_per_image(profiles, count) | {("load generator", "all"): result.load_cpu_us})


def main(args: argparse.Namespace) -> int:
    """Measure and print; return 2 if py-spy is not installed."""
    if not PY_SPY.exists():
        print(
            f"{PY_SPY} is missing. Run `make bench` once: it installs py-spy with the other servers.", file=sys.stderr
        )
        return 2
    paths = sample_images.find_or_draw(args.images, report.OUT / "images", args.drawn)
    bodies = [path.read_bytes() for path in paths]
    text: list[str] = []
    probe = cpu_probe.CpuProbe()
    with probe, stack.up() as server, tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        bulk.enqueue(server, bulk.make_fresh_folder(paths, Path(work_dir) / "warm", args.count // 4, "warm"))
        text += profile_folder(server, bulk.make_fresh_folder(paths, Path(work_dir) / "now", args.count, "now"))
        text += profile_singles(server, bodies, "single, accepted and classified", single_image.accepted, args.seconds)
        text += profile_singles(server, bodies, "single, answered with the result", single_image.finished, args.seconds)
    text += ["", f"A fixed loop took {probe.median:.1f} ms of CPU during the run (benchmarks/cpu_probe.py)."]
    report.save(text, args.out / "cpu_profile.txt")
    return 0


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_profile", description=__doc__)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="use these JPEGs instead of drawn ones")
    parser.add_argument("--drawn", type=int, default=500, help="images to draw")
    parser.add_argument("--count", type=int, default=2000, help="images in the folder")
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each load of single images")
    parser.add_argument("--out", type=Path, default=report.OUT, help="folder for the table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
