import os
import subprocess
import sys

from worker import pid_namespace

NAME_COMMAND = "from worker import pid_namespace; print(pid_namespace.name())"


def test_processes_of_one_namespace_have_one_name():
    """A child of this process is in its namespace."""
    name = pid_namespace.name()
    child = subprocess.run([sys.executable, "-c", NAME_COMMAND], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(name)


def test_a_process_is_dead_when_its_id_belongs_to_none():
    """This one and those of other users live."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert pid_namespace.is_dead(child.pid)
    assert not pid_namespace.is_dead(os.getpid())
    assert not pid_namespace.is_dead(1)


def test_without_proc_there_is_no_name(monkeypatch, tmp_path):
    """As on a kernel that is not Linux: such workers wait for leases to end."""
    monkeypatch.setattr(pid_namespace, "BOOT_ID_FILE", tmp_path / "missing")
    assert pid_namespace.name() is None
