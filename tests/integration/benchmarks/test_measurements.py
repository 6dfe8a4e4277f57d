"""Arithmetic of the memory, CPU profile, role and network cost benchmarks."""

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import cpu_profile, memory, network_cost, process_usage
from model.networks import factory

REPOSITORY = Path(__file__).parent.parent.parent.parent
VIEW_FRAMES = "view_0;_worker (concurrent/futures/thread.py:83);submit (api/routes/jobs.py:20)"
RAW = f"""\
thread (11): {VIEW_FRAMES};put (core/storage/base.py:77) 30
thread (11): {VIEW_FRAMES};execute (sqlalchemy/e.py:1) 10
thread (12): MainThread;run (granian/server.py:1) 5
"""


def test_memory_growth_is_relative_to_the_end_of_the_warm_up():
    """Memory allocated before that is allocated once."""
    sizes = {count: {"api": size} for count, size in ((1000, 50.0), (2000, 100.0), (5000, 104.0), (10_000, 102.0))}

    assert memory.growth(sizes, "api") == pytest.approx(1.04)


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("python -m worker.decoding.decoder_child 5 6 {}", "decoders"),
        ("python -m celery -A worker.app worker --without-gossip", "worker"),
        ("python -m api", "api"),
        ("python -m dispatcher", "dispatcher"),
        ("python -m sortbelt up --database-url postgresql+psycopg://x", "supervisor"),
        ("postgres: user db [local] idle", "postgresql"),
        ("/somewhere/redis-server unixsocket:/tmp/redis.sock", "redis"),
        ("python -m benchmarks.peers.mosec_server", "server"),
    ],
)
def test_the_role_of_a_process_follows_from_its_command_line(line, role):
    """Every process of a stack has a role; other processes get the default."""
    assert process_usage.role_of(line, "server") == role


def test_samples_count_for_the_innermost_function_of_this_repository():
    """Time in a library counts for the function that called it."""
    assert cpu_profile.parse_samples(RAW) == {
        11: Counter({"core/storage/base.py put": 30, "api/routes/jobs.py submit": 10}),
        12: Counter({"libraries (MainThread)": 5}),
    }


def test_cpu_time_of_a_thread_is_divided_by_its_samples():
    """A thread without Python frames keeps the name that the kernel has for it."""
    profile = cpu_profile.ProcessProfile(
        "api", {11: 4.0, 99: 1.0}, {11: "view_0", 99: "tokio"}, cpu_profile.parse_samples(RAW)
    )

    assert profile.seconds_by_function() == {
        "core/storage/base.py put": 3.0,
        "api/routes/jobs.py submit": 1.0,
        "tokio (no Python)": 1.0,
    }
    assert cpu_profile.cpu_per_image([profile], 1000)["api", "core/storage/base.py put"] == pytest.approx(3000.0)


def test_thread_cpu_time_increases_with_work():
    """The CPU time of a busy thread is read from the kernel."""
    thread_id = threading.get_native_id()
    before = cpu_profile.read_thread_cpu(cpu_profile.os.getpid())
    deadline = time.thread_time() + 0.1
    while time.thread_time() < deadline:
        sum(range(100_000))
    after = cpu_profile.read_thread_cpu(cpu_profile.os.getpid())

    assert after[thread_id][0] > before[thread_id][0]


def test_the_cost_of_a_network_is_the_sum_of_its_layers():
    """A convolution and a dense layer, counted by hand."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 2))

    cost = network_cost.measure(network, 4, 4)

    assert cost.flops == 2 * (8 * 2 * 2) * 27 + 2 * 2 * 32
    assert cost.values_moved == 3 * 16 + 32 + 32 + 2


def test_the_published_network_costs_a_quarter_of_a_gigaflop():
    """GPU utilization is computed from this figure."""
    assert network_cost.measure(
        factory.build("cookpad-cnn", classes=2, height=64, width=64), 64, 64
    ).flops == pytest.approx(256.2e6, rel=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_prints_a_message():
    """It exits with 3, also when run by its path."""
    run = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert run.returncode == 3
    assert (
        run.stdout
        == "This machine has no GPU, so nothing was measured. Use --device cpu to try the code without one.\n"
    )
    assert run.stderr == ""
