"""Loops and folders for real, but tiny."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from bench import bare, bulk, pictures, plain, single, stack, watchers

REPOSITORY = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.timeout(600)  # processes that each import torch: on a busy machine that takes its time


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A few pictures."""
    return pictures.folder(tmp_path_factory.mktemp("drawn"), 6)


def test_the_loops_label_every_picture(drawn):
    """The plain one and those that may be the limit."""
    runs = [plain.run(drawn, processes=1), bare.processes(1, 4, drawn), bare.threads(2, 1, 4, drawn)]

    for run in runs:
        assert len(run.labels) == len(drawn)
        assert set(run.labels) <= {"sushi", "sandwich"}
        assert run.rate > 0
        assert run.cpu_us > 0
    assert runs[1].labels == runs[2].labels


def test_a_folder_and_singles_go_through_a_real_stack(drawn, tmp_path):
    """Every picture gets a label, and every process its account."""
    folder = bulk.fresh(drawn, tmp_path / "fresh", 10, "test")
    bodies = [path.read_bytes() for path in drawn]
    with stack.up() as server:
        done = bulk.enqueue(server, folder)
        again = bulk.fresh(drawn, tmp_path / "fresh", 10, "watched")
        seen, who, _ = asyncio.run(watchers.watched(server, again, 3, 2, every=0.2))
        accepted = single.accepted(server, bodies, connections=2, seconds=1.0)
        server.settle()

    assert len(done.run.labels) == 10
    assert set(done.run.labels) <= {"sushi", "sandwich"}
    assert {"client", "api", "worker", "decoders", "redis", "supervisor"} <= set(done.cpu_us)
    assert done.cpu_us["worker"] > 0
    assert len(seen.run.labels) == 10
    assert who.seen["polls"] >= 3
    assert who.seen["events"] >= 2
    assert set(accepted.load.statuses) == {202}
    assert accepted.rss_mb["api"] > 10


def test_the_gpu_s_code_runs_on_a_cpu():
    """The network alone, the classifier, decoding, files, and the whole worker over SQLite."""
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        "--device",
        "cpu",
        "--count",
        "12",
        "--drawn",
        "4",
        "--seconds",
        "0.05",
    ]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert run.stdout.count("images/s") == 5
    assert "1 worker, " in run.stdout
    assert "the nearer bound is" in run.stdout
