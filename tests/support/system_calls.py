"""System calls of a process, recorded by strace."""

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TRACED = "write,writev,pwrite64,sendto,sendmsg,rename,renameat,renameat2,fsync,fdatasync,syncfs"
CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
TIMEOUT_SECONDS = 60


@dataclass
class SystemCall:
    """A call with its arguments, and the lines at which it began and ended."""

    name: str
    text: str
    began: int
    ended: int


def why_unavailable() -> str | None:
    """Return why no process can be traced here; None if one can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"strace cannot trace: {probe.stderr.strip()}" if probe.returncode else None


def tracer_command(output: Path) -> list[str]:
    """Return the start of a command line whose system calls are recorded; its process is the program itself."""
    return ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-s", "9000", "-e", f"trace={TRACED}", "-o", str(output)]


def read_calls(output: Path, pid: int) -> list[SystemCall]:
    """Return the calls in the order in which they began, when the process `pid` has ended."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not re.search(rf"^{pid} +\+\+\+ ", output.read_text(errors="replace"), re.MULTILINE):
        if time.monotonic() > deadline:
            raise TimeoutError(f"strace has not recorded the end of process {pid}")
        time.sleep(0.05)
    calls: list[SystemCall] = []
    unfinished: dict[tuple[str, str], SystemCall] = {}
    for number, line in enumerate(output.read_text(errors="replace").splitlines()):
        if match := CALL.match(line):
            call = SystemCall(match["name"], match["rest"], number, number)
            calls.append(call)
            if line.endswith("<unfinished ...>"):
                unfinished[match["pid"], match["name"]] = call
        elif match := RESUMED.match(line):
            call = unfinished.pop((match["pid"], match["name"]))
            call.text, call.ended = call.text + match["rest"], number
    return calls
