"""Loops and folders on real processes, with a few images."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import baseline_loop, bulk, sample_images, single_image, stack, upper_bound, watchers

REPOSITORY = Path(__file__).parent.parent.parent.parent
pytestmark = pytest.mark.timeout(600)  # many processes that each import torch


@pytest.fixture(scope="module")
def image_paths(tmp_path_factory):
    """Draw a few images."""
    return sample_images.draw_folder(tmp_path_factory.mktemp("drawn"), 6)


def test_the_loops_label_every_image(image_paths):
    """The baseline and the bare loops give every image a label, and the bare loops agree."""
    runs = [
        baseline_loop.run(image_paths, processes=1),
        upper_bound.run_processes(1, 4, image_paths),
        upper_bound.run_threads(2, 1, 4, image_paths),
    ]

    for run in runs:
        assert len(run.labels) == len(image_paths)
        assert set(run.labels) <= {"sushi", "sandwich"}
        assert run.rate > 0
        assert run.cpu_us > 0
    assert runs[1].labels == runs[2].labels


def test_a_folder_and_singles_go_through_a_real_stack(image_paths, tmp_path):
    """Every image gets a label, and CPU and memory are recorded for every role."""
    folder = bulk.make_fresh_folder(image_paths, tmp_path / "fresh", 10, "test")
    bodies = [path.read_bytes() for path in image_paths]
    with stack.up() as server:
        result = bulk.enqueue(server, folder)
        second_folder = bulk.make_fresh_folder(image_paths, tmp_path / "fresh", 10, "watched")
        watched, job_watchers, _ = asyncio.run(watchers.enqueue_watched(server, second_folder, 3, 2, poll_interval=0.2))
        accepted = single_image.accepted(server, bodies, connections=2, seconds=1.0)
        server.wait_until_idle()

    assert len(result.run.labels) == 10
    assert set(result.run.labels) <= {"sushi", "sandwich"}
    assert {"client", "api", "worker", "decoders", "redis", "supervisor"} <= set(result.cpu_us)
    assert result.cpu_us["worker"] > 0
    assert len(watched.run.labels) == 10
    assert job_watchers.counts["polls"] >= 3
    assert job_watchers.counts["events"] >= 2
    assert set(accepted.load.statuses) == {202}
    assert accepted.rss_mb["api"] > 10


def test_the_gpu_benchmark_runs_on_a_cpu():
    """Every part runs: network, classifier, decoding, files, and the whole worker on SQLite."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
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
