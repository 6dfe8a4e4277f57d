"""Pictures that take down what looks at them, and a network that answers nonsense: each costs itself alone."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from jobs import settings
from tests.faults.stack import POISON, SLACK, picture


def keep_up(stack, fault, count=1, **more):
    """Keep so many workers running, as a supervisor does, until all is done; how often one had to be started again."""
    running = [stack.start_worker(fault, **more) for _ in range(count)]
    restarts = 0
    deadline = time.monotonic() + 90 * SLACK
    while stack.done() < sum(map(len, stack.accepted.values())):
        assert time.monotonic() < deadline, running[-1].said()[-3000:]
        for place, worker in enumerate(running):
            if not worker.alive:
                running[place] = stack.start_worker(fault, **more)
                restarts += 1
        time.sleep(0.05)
    return restarts


@pytest.mark.parametrize(("fault", "stuck"), [("segfaults", 60), ("hangs", 8)])
def test_a_picture_that_takes_its_worker_down(stack, fault, stuck):
    """Rows 26 and 28: found within three attempts, failed with a code; thirty-one others have their results."""
    stack.settings |= {"stuck_seconds": stuck, "batch_size": 32}
    stack.submit(20, ("poison.png", POISON))
    stack.submit(11)
    restarts = keep_up(stack, fault)
    stack.settle(failed={"poison.png": "worker_lost"})
    assert restarts >= 3
    attempts = stack.attempts()
    assert attempts.pop("poison.png") == 3
    print(f"{fault}: attempts of the neighbours: {sorted(attempts.values())}")


def test_two_poisons_and_two_workers(stack):
    """Row 26: they fail, both, and nobody else; whoever works beside them is not suspected."""
    stack.settings |= {"batch_size": 8}
    stack.submit(10, ("one.png", POISON))
    stack.submit(10, ("two.png", POISON + b"2"))
    keep_up(stack, "segfaults", 2)
    stack.settle(failed={"one.png": "worker_lost", "two.png": "worker_lost"})


def test_a_picture_that_takes_its_decoder_down(stack, tmp_path):
    """Row 26: a segmentation fault in the child, and again alone: 31 results, one failed, the worker unharmed."""
    stack.settings |= {"batch_size": 32}
    poison = picture(1_000_007)
    stack.submit(20, ("poison.png", poison))
    stack.submit(11)
    stack.blob(poison).unlink()
    os.mkfifo(stack.blob(poison))  # whoever reads it waits: then it is given its segmentation fault

    def kill():
        for _ in range(2):
            with open(stack.blob(poison), "wb"):  # noqa: PTH123 (waits for a reader)
                for process in psutil.process_iter(["cmdline"]):
                    if "worker.decoder" in (process.info["cmdline"] or []) and reads(process, stack.blob(poison)):
                        process.send_signal(signal.SIGSEGV)
                        time.sleep(0.1)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    (worker,) = stack.start_workers(1)
    stack.settle(40, failed={"poison.png": "crashed_decoder"})
    assert worker.alive
    assert set(stack.attempts().values()) == {1}


def reads(process, path):
    """Whether a process has a file open."""
    try:
        return any(each.readlink() == path for each in Path(f"/proc/{process.pid}/fd").iterdir())
    except OSError:
        return False


def test_a_picture_that_its_decoder_hangs_on(stack):
    """Row 28: a disk that does not answer for one picture; it times out, the others do not wait for long."""
    stack.settings |= {"decode_seconds": 1, "batch_size": 32}
    hung = picture(1_000_008)
    stack.submit(20, ("hung.png", hung))
    stack.blob(hung).unlink()
    os.mkfifo(stack.blob(hung))
    (worker,) = stack.start_workers(1)
    stack.settle(20, failed={"hung.png": "timed_out"})
    assert worker.alive


def test_sigterm_is_heard_while_the_network_hangs(stack):
    """Row 28: it ends in its time, and what it held is done by another."""
    stack.submit(5, ("poison.png", POISON))
    (worker,) = stack.start_workers(1, fault="hangs", stuck_seconds=6)
    stack.until(stack.running, 10, "it has claimed")
    time.sleep(2)  # it has decoded, and hangs
    worker.signal(signal.SIGTERM)
    assert worker.ended(15) == 70
    stack.start_workers(1)
    stack.settle(20)


@pytest.mark.parametrize("fault", ["nan", "oom:4", "too_few"], ids=["not a number", "no memory", "a class too few"])
def test_a_network_that_answers_nonsense(stack, fault):
    """Rows 24 and 25: whoever has no answer fails alone, at the first attempt; a lack of memory halves the batch.

    The memory is the CPU's: there is no GPU here. That of a GPU raises the same error at the same place.
    """
    stack.submit(30, ("poison.png", POISON))
    (worker,) = stack.start_workers(1, fault=fault)
    (names,) = stack.accepted.values()
    failed = names if fault == "too_few" else ["poison.png"]
    stack.settle(30, failed=dict.fromkeys(failed, "bad_output"))
    assert set(stack.attempts().values()) == {1}
    if fault.startswith("oom"):
        assert "out of memory at a batch of" in worker.said()
    with_nan = stack.db.read(lambda c: c.exec_driver_sql("SELECT scores::text FROM results").all())
    assert not any("NaN" in (scores or "") for (scores,) in with_nan)


@pytest.mark.parametrize("fault", ["missing", "cut off", "another digest", "a pickle", "other shapes"])
def test_bad_weights_are_refused_before_anything_is_claimed(stack, tmp_path, fault):
    """Row 23: an exit code, a sentence; not ready; the jobs wait with no attempt spent."""
    import json
    import pickle
    import shutil

    bundles = tmp_path / "bundles"
    shutil.copytree(settings.BUNDLES, bundles)
    bundle = bundles / "sushi-or-sandwich"
    weights, about = bundle / "weights.safetensors", bundle / "model.json"
    if fault == "missing":
        weights.unlink()
    elif fault == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif fault == "another digest":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    elif fault == "a pickle":
        weights.write_bytes(pickle.dumps({"weights": list(range(10))}))
    else:
        told = json.loads(about.read_text())
        told["network"]["width" if "width" in told["network"] else "classes"] += 8
        about.write_text(json.dumps(told))
    stack.submit(3)
    worker = stack.start_worker(bundles=bundles)
    assert worker.ended(60) not in (0, None)
    assert "cannot start" in worker.said()
    assert "Traceback" not in worker.said()
    assert set(stack.attempts().values()) == {0}
    stack.start_api()
    with stack.client() as client:
        assert client.get("/readyz").status_code == 503


def test_bombs_among_good_pictures(stack, shared):
    """Row 27: of processor time, of memory, of pixels; refused or failed in seconds, and the neighbours are done."""
    from tests.faults import hostile

    stack.start_api()
    stack.start_workers(1)
    bombs = hostile.bombs()
    with stack.client() as client:
        started = time.monotonic()
        assert stack.post(client, stack.files(31, *bombs.items())).status_code == 202
    stack.until(lambda: stack.done() == 31 + len(bombs), 60, "all have ended")
    print(f"{len(bombs)} bombs and 31 pictures took {time.monotonic() - started:.1f} s")
    codes = {name: code for name, (_, code) in stack.results().items() if code}
    assert set(codes) == set(bombs)
    assert set(codes.values()) <= {"too_large", "undecodable", "timed_out", "unsupported_format"}
    stack.check_books()
