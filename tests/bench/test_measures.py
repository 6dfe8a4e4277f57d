"""The arithmetic of memory, stages, roles and cost."""

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench import cost, memory, processes, stages
from model import networks

REPOSITORY = Path(__file__).parent.parent.parent
RAW = """\
thread (11): view_0;_worker (concurrent/futures/thread.py:83);submit (api/jobs.py:20);put (jobs/blobs.py:77) 30
thread (11): view_0;_worker (concurrent/futures/thread.py:83);submit (api/jobs.py:20);execute (sqlalchemy/e.py:1) 10
thread (12): MainThread;run (granian/server.py:1) 5
"""


def test_memory_is_judged_from_the_end_of_the_warm_up():
    """What is taken before that is taken once."""
    seen = {count: {"api": size} for count, size in ((1000, 50.0), (2000, 100.0), (5000, 104.0), (10_000, 102.0))}

    assert memory.growth(seen, "api") == pytest.approx(1.04)


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("python -m worker.decoder 5 6 {}", "decoders"),
        ("python -m celery -A worker.app worker --without-gossip", "worker"),
        ("python -m api", "api"),
        ("python -m sortbelt up --database-url postgresql+psycopg://x", "supervisor"),
        ("postgres: user db [local] idle", "postgresql"),
        ("/somewhere/redis-server unixsocket:/tmp/redis.sock", "redis"),
        ("python -m bench.peers.mosec_server", "server"),
    ],
)
def test_a_process_is_known_by_its_command_line(line, role):
    """Each to the account of its own."""
    assert processes.role_of(line, "server") == role


def test_samples_go_to_the_innermost_function_of_ours():
    """What a library does is done for whoever called it."""
    assert stages.parsed(RAW) == {
        11: Counter({"jobs/blobs.py put": 30, "api/jobs.py submit": 10}),
        12: Counter({"libraries (MainThread)": 5}),
    }


def test_cpu_is_the_kernel_s_count_shared_by_samples():
    """A thread without Python is named as the kernel names it."""
    watched = stages.Watched("api", {11: 4.0, 99: 1.0}, {11: "view_0", 99: "tokio"}, stages.parsed(RAW))

    assert watched.seconds() == {"jobs/blobs.py put": 3.0, "api/jobs.py submit": 1.0, "tokio (no Python)": 1.0}
    assert stages.each([watched], 1000)["api", "jobs/blobs.py put"] == pytest.approx(3000.0)


def test_the_kernel_s_count_is_of_this_thread():
    """Microseconds of CPU come from somewhere real."""
    mine = threading.get_native_id()  # not the lowest, where numbers have begun anew
    before = stages.threads(stages.os.getpid())
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        sum(range(100_000))
    after = stages.threads(stages.os.getpid())

    assert after[mine][0] > before[mine][0]


def test_the_cost_of_a_network_is_that_of_its_layers():
    """A convolution and a dense layer, counted by hand."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 2))

    one = cost.of(network, 4, 4)

    assert one.flops == 2 * (8 * 2 * 2) * 27 + 2 * 2 * 32
    assert one.values == 3 * 16 + 32 + 32 + 2


def test_the_published_network_costs_a_quarter_of_a_gigaflop():
    """The figure that shares of a GPU are computed with."""
    assert cost.of(networks.build("cookpad-cnn", classes=2, height=64, width=64), 64, 64).flops == pytest.approx(
        256.2e6, rel=1e-3
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_sentence():
    """And exits with 3, also when it is run by its path."""
    run = subprocess.run([sys.executable, "bench/gpu.py"], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert run.returncode == 3
    assert run.stdout == "There is no GPU here, so nothing was measured; --device cpu tries the code without one.\n"
    assert run.stderr == ""
