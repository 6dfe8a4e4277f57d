"""Confinement of this process before it reads untrusted bytes, for good: what it holds open is all it has left."""

import ctypes
import os
import site
from collections.abc import Sequence

from core.sandbox import landlock, seccomp

PR_SET_NO_NEW_PRIVS = 38
STANDARD_STREAMS = (0, 1, 2)


def confine(keep_streams: Sequence[int] = ()) -> list[str]:
    """Empty the environment, close the standard streams, and give up files, sockets, programs and other processes.

    Reading Python's own library stays possible, for imports that come late. Where the kernel has no Landlock or no
    seccomp, the process goes on without it; `sortbelt doctor` says so. If the kernel has it and refuses it, the process
    goes on too, and says so on the standard error stream.

    Args:
        keep_streams: which of the descriptors 0, 1 and 2 stay as they are; the others become the null device.

    Returns:
        What the kernel has and refuses.
    """
    os.environ.clear()
    error_stream = os.dup(2)
    null_device = os.open(os.devnull, os.O_RDWR)
    for stream in STANDARD_STREAMS:
        if stream not in keep_streams:
            os.dup2(null_device, stream)
    os.close(null_device)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    available = {"Landlock": bool(landlock.abi_version()), "seccomp": seccomp.is_available()}
    in_force = {"Landlock": landlock.restrict_self(library_folders()), "seccomp": seccomp.restrict_self()}
    refused = [name for name, is_available in available.items() if is_available and not in_force[name]]
    if refused:
        message = f"process {os.getpid()} is confined less: the kernel has {' and '.join(refused)}, and refuses it\n"
        os.write(error_stream, message.encode())
    os.close(error_stream)
    return refused


def library_folders() -> list[str]:
    """Return the folders of the standard library and of the installed packages."""
    return [os.path.dirname(os.__file__), *site.getsitepackages()]  # noqa: PTH120 (pathlib takes longer to import)


def main() -> None:
    """Confine this process, and print what the kernel refuses, one name a line: a test of this machine."""
    os.write(1, "\n".join(confine(keep_streams=(1,))).encode())


if __name__ == "__main__":
    main()
