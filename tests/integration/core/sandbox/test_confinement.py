import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.maintenance import preflight
from core.sandbox import confinement, landlock, seccomp

SCRIPT = Path(__file__).with_name("escapes.py")
ROOT = Path(__file__).parents[4]
HAS_BOTH = landlock.abi_version() >= 6 and seccomp.is_available() and platform.machine() == "x86_64"
needs_both = pytest.mark.skipif(not HAS_BOTH, reason="this kernel lacks Landlock or seccomp")


@pytest.fixture
def run_escapes(tmp_path):
    """Run the escapes in a child process, with some code before; return what it printed."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "image").write_text("image")
    tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "socket"))
    unix.listen()

    def run(before="pass", names=()):
        code = f"import sys, runpy\n{before}\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        arguments = [str(tmp_path), str(tcp.getsockname()[1]), str(os.getpid()), *names]
        environment = {"PYTHONPATH": str(ROOT), "PASSWORD": "secret"}
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
        assert done.stderr == b""
        assert (tmp_path / "secret").read_text() == "secret"
        return json.loads(done.stdout)

    yield run
    tcp.close()
    unix.close()


ALLOWED = {
    "read its own input": "image",
    "import a module": "colorsys",
    "start a thread": "ok",
    "end itself by a signal": "ok",
}


@needs_both
def test_a_confined_process_can_only_read_what_it_was_given(run_escapes):
    """None of forty ways out works; its input, late imports and threads do."""
    assert run_escapes() == {"escaped": [], "allowed": ALLOWED}


@needs_both
def test_each_of_the_two_confines_where_the_kernel_lacks_the_other(run_escapes):
    """Without Landlock files can be read, but not written; without seccomp programs run, but reach no file."""
    without_landlock = "from core.sandbox import landlock; landlock.abi_version = lambda: 0"
    reached = run_escapes(without_landlock)
    assert reached["allowed"] == ALLOWED
    assert set(reached["escaped"]) <= {
        "read a file",
        "read the accounts",
        "read its parent's environment",
        "read its own environment",
        "list a folder",
        "open its parent's memory",
    }
    tried = ["read a file", "write a file", "remove a file", "list a folder", "read a variable", "start a program"]
    without_seccomp = "from core.sandbox import seccomp; seccomp.is_available = lambda: False"
    assert run_escapes(without_seccomp, [*tried, "reach TCP", "signal its parent", "trace its parent"])["escaped"] == []


def test_a_kernel_without_either_is_no_error(run_escapes):
    """The process works as it did before there was a sandbox; its environment is empty all the same."""
    patch = "from core.sandbox import landlock, seccomp; landlock.abi_version = seccomp.is_available = lambda: 0"
    assert run_escapes(patch, ["read a variable"]) == {"escaped": [], "allowed": ALLOWED}


@needs_both
@pytest.mark.parametrize(("number", "name"), [(444, "Landlock"), (446, "Landlock"), (317, "seccomp")])
def test_a_refusal_of_the_kernel_is_reported(number, name):
    """The kernel says that it has it, and the call fails all the same: as in some containers. The process goes on."""
    module = "landlock" if name == "Landlock" else "seccomp"
    code = f"""
from core.sandbox import confinement, {module} as module
module.LIBC = type("Libc", (), {{"real": module.LIBC, "syscall": lambda self, number, *arguments:
    -1 if number == {number} and arguments[0] not in (None, 2) else self.real.syscall(number, *arguments)}})()
confinement.main()
"""
    command, environment = [sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout == name
    assert f"the kernel has {name}, and refuses it" in done.stderr


def test_doctor_confines_a_process(monkeypatch):
    """And reports what the kernel refuses it."""
    assert "this kernel has" in preflight._check_sandbox().detail
    monkeypatch.setattr(preflight, "_refused_confinement", lambda: ["seccomp"])
    assert "this kernel has seccomp, but a process cannot use it" in preflight._check_sandbox().detail


def test_only_libraries_stay_readable():
    """They are those of Python and of its packages, not the project, whose folder may hold data."""
    for folder in confinement.library_folders():
        assert not ROOT.is_relative_to(folder)
        assert folder != str(ROOT)
