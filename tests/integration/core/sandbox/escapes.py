"""`escapes.py FOLDER TCP_PORT PARENT [NAME…]`: confine this process, try to leave it, print what succeeded.

FOLDER holds `secret`, which may neither be read nor changed, `image`, which is open, and `socket`, a Unix socket.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from core.sandbox import confinement, process_limits

FOLDER, PORT, PARENT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PROCESS_VM_READV, IO_URING_SETUP, MEMFD_CREATE, CLONE3 = 16, 310, 425, 319, 435


def call(number, *arguments):
    """Make a system call by its number; raise if it fails."""
    if LIBC.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


def connect(family, address):
    """Connect to a server."""
    with socket.socket(family) as client:
        client.connect(address)


def read_environment():
    """Look for a variable that the parent has set."""
    assert os.environ["PASSWORD"]


def fork():
    """Start a copy of this process."""
    if os.fork() == 0:
        os._exit(0)


def raise_memory_limit():
    """Lift the limit on the address space."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


ESCAPES = {
    "read a file": lambda: (FOLDER / "secret").read_bytes(),
    "read the accounts": lambda: Path("/etc/passwd").read_bytes(),
    "read its parent's environment": lambda: Path(f"/proc/{PARENT}/environ").read_bytes(),
    "read its own environment": lambda: Path("/proc/self/environ").read_bytes(),
    "read a variable": read_environment,
    "list a folder": lambda: list(FOLDER.iterdir()),
    "write a file": lambda: (FOLDER / "secret").write_bytes(b"changed"),
    "append to a file": lambda: (FOLDER / "secret").open("ab"),
    "truncate a file": lambda: os.truncate(FOLDER / "secret", 0),
    "create a file": lambda: (FOLDER / "new").touch(),
    "remove a file": lambda: (FOLDER / "secret").unlink(),
    "rename a file": lambda: (FOLDER / "secret").rename(FOLDER / "other"),
    "link a file": lambda: (FOLDER / "link").hardlink_to(FOLDER / "secret"),
    "link by name": lambda: (FOLDER / "symlink").symlink_to(FOLDER / "secret"),
    "make a folder": lambda: (FOLDER / "folder").mkdir(),
    "change a mode": lambda: (FOLDER / "secret").chmod(0o777),
    "write in a library": lambda: Path(os.__file__).with_name("planted.py").touch(),
    "reach TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)),
    "reach a Unix socket": lambda: connect(socket.AF_UNIX, str(FOLDER / "socket")),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)),
    "make a pair of sockets": socket.socketpair,
    "fork": fork,
    "clone3": lambda: call(CLONE3, None, 0),
    "start a program": lambda: subprocess.run(["/bin/true"], check=True),
    "replace itself": lambda: os.execv("/bin/true", ["true"]),
    "trace its parent": lambda: call(101, PTRACE_ATTACH, PARENT, 0, 0),
    "read its parent's memory": lambda: call(PROCESS_VM_READV, PARENT, None, 0, None, 0, 0),
    "open its parent's memory": lambda: Path(f"/proc/{PARENT}/mem").open("rb"),
    "signal its parent": lambda: os.kill(PARENT, 0),
    "signal everything": lambda: os.kill(-1, 0),
    "signal by a descriptor": lambda: os.pidfd_open(PARENT),
    "limit its parent": lambda: resource.prlimit(PARENT, resource.RLIMIT_NOFILE),
    "raise its own limits": raise_memory_limit,
    "use io_uring": lambda: call(IO_URING_SETUP, 1, None),
    "make a file in memory": lambda: call(MEMFD_CREATE, b"x", 0),
    "leave its folder": lambda: os.chdir("/"),
    "change its user": lambda: os.setuid(65534),
    "set another's owner of signals": lambda: __import__("fcntl").fcntl(0, 8, PARENT),
}
ALLOWED = {
    "read its own input": lambda image: os.pread(image, 9, 0).decode(),
    "import a module": lambda _: __import__("colorsys").__name__,
    "start a thread": lambda _: (thread := threading.Thread(target=int), thread.start(), thread.join()) and "ok",
    "end itself by a signal": lambda _: signal.raise_signal(signal.SIGCHLD) or "ok",
}


def attempt(action, *arguments):
    """Return None if an action is denied, else what it returned, as text."""
    try:
        return str(action(*arguments))
    except (OSError, KeyError, AssertionError, ValueError, RuntimeError):
        return None


def main():
    """Confine, try everything, print a JSON object on the standard output, which stays open."""
    image = os.open(FOLDER / "image", os.O_RDONLY)
    process_limits.apply_rlimits(768_000_000)
    confinement.confine(keep_streams=(1,))
    names = sys.argv[4:] or list(ESCAPES)
    escaped = [name for name in names if attempt(ESCAPES[name]) is not None]
    print(json.dumps({"escaped": escaped, "allowed": {n: attempt(a, image) for n, a in ALLOWED.items()}}))


if __name__ == "__main__":
    main()
