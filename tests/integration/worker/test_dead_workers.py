import subprocess
import sys

import pytest

from core.db.queries import workers
from core.maintenance import reaper
from tests.support import factories
from worker import dead_workers

NAMESPACE = "host/boot/1"


@pytest.fixture
def process():
    """A process that runs until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


@pytest.fixture
def claims(db, owner, process):
    """A registered worker with that process holds two images for ten minutes."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu", pid=process.pid, pid_namespace=NAMESPACE)
    factories.create_job(db, owner, "a", "b")
    return factories.claim_images(db, worker="w1", lease_seconds=600)


def requeued(db):
    """Return how many images the reaper requeues."""
    return reaper.reap(db, max_attempts=3)


def test_the_leases_of_a_process_that_dies_end(db, process, claims):
    """Not before; and its death is reported once."""
    others = dead_workers.DeadWorkers(db, NAMESPACE)
    others.end_leases()
    assert not others.poll()
    assert requeued(db) == 0
    process.kill()
    process.wait()
    assert [others.poll(), others.poll()] == [True, False]
    others.end_leases()
    assert requeued(db) == len(claims)


@pytest.mark.parametrize("namespace", ["host/boot/2", None])
def test_processes_of_other_namespaces_are_not_looked_for(db, process, claims, namespace):
    """The same number means another process there."""
    process.kill()
    process.wait()
    dead_workers.DeadWorkers(db, namespace).end_leases()
    assert requeued(db) == 0


def test_a_worker_whose_heartbeats_go_on_lives_elsewhere(db, process, claims):
    """In a clone of the virtual machine with the same names: it loses its images once at most."""
    process.kill()
    process.wait()
    others = dead_workers.DeadWorkers(db, NAMESPACE)
    others.end_leases()
    assert requeued(db) == len(claims)
    db.write(workers.heartbeat, "w1", 0)
    factories.claim_images(db, worker="w1", lease_seconds=600)
    others.end_leases()
    assert requeued(db) == 0
