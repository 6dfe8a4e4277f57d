import os

import pytest

from core import settings
from core.concurrency import cpu_count
from tests.support import modules

CORES = len(os.sched_getaffinity(0))


def make_root(tmp_path, cgroup, files):
    """A tree with `/proc/self/cgroup` and files below `/sys/fs/cgroup`."""
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, CORES),
        ("0::/\n", {}, CORES),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/not/mounted\n", {"cpu.max": "100000 100000"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "1", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "9"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n"}, CORES),
        ("rubbish", {"cpu.max": "1"}, CORES),
        ("", {"cpu.max": "100000 100000"}, CORES),
    ],
)
def test_the_quota_of_the_container_limits_the_cpus(tmp_path, cgroup, files, expected):
    """Of both versions of control groups, of each ancestor; a missing or malformed file means no limit."""
    assert cpu_count.available_cpus(make_root(tmp_path, cgroup, files)) == min(expected, CORES)


def test_without_control_groups_the_affinity_counts(tmp_path):
    """As outside of containers."""
    assert cpu_count.available_cpus(tmp_path) == CORES


def test_by_default_a_worker_has_as_many_decoders_as_cpus(monkeypatch):
    """A container with 1 CPU on a large machine does not start a decoder for each core of the machine."""
    monkeypatch.setattr(cpu_count, "os", modules.with_changes(os, sched_getaffinity=lambda _: range(64)))
    monkeypatch.setattr(cpu_count, "_cgroup_quotas", lambda _: iter([1.5]))
    assert settings.read({}).decoder_processes == 2
