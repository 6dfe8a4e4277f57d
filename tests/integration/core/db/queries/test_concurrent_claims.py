import collections
import concurrent.futures
import subprocess
import sys
import threading

import pytest

from core.db.queries import claims as claim_queries
from core.db.queries import jobs
from core.maintenance import reaper
from tests.support import factories

CLAIMER = """
import sys
from core.db import database
from tests.support import factories
db = database.Database(sys.argv[1])
while claims := factories.claim_images(db, limit=7, worker=sys.argv[2]):
    factories.complete_claims(db, claims)
    print(*(claim.name for claim in claims), sep="\\n")
"""


def at_once(count, action):
    """Run an action in so many threads that start together; what each returned."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait()
        return action(number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_five_repeats_at_once_make_one_job(db, owner):
    """A client that retries while its first try is still under way has ordered once."""
    order = {"idempotency_key": "k", "fingerprint": "f"}
    ids = at_once(5, lambda _: factories.create_job(db, owner, "a", "b", **order))
    assert len(set(ids)) == 1
    assert factories.job_counts(db, ids[0]) == {"queued": 2}


def test_five_pieces_at_once_of_one_job_all_count(db, owner):
    """A folder goes up on several connections, some pieces twice."""
    id_ = factories.create_job(db, owner, sealed=False)
    pieces = [[factories.new_image(f"{n}") for n in range(start, start + 20)] for start in (0, 10, 20, 30, 30)]
    new = at_once(5, lambda number: db.write(jobs.add_images, id_, owner, pieces[number]))
    assert sum(new) == 50
    assert factories.job_counts(db, id_) == {"queued": 50}


def test_claims_of_threads_share_no_image(db, owner):
    """Six threads empty a queue: every image is given once."""
    factories.create_job(db, owner, *(f"{n}" for n in range(300)))

    def work_off(number):
        taken = []
        empty = 0
        while empty < 3:  # on PostgreSQL all that is left may just be in another's hands
            claims = factories.claim_images(db, limit=7, worker=f"w{number}")
            empty = 0 if claims else empty + 1
            taken += [claim.name for claim in claims]
        return taken

    taken = collections.Counter(name for names in at_once(6, work_off) for name in names)
    assert taken == dict.fromkeys((f"{n}" for n in range(300)), 1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # threads do for PostgreSQL, a server anyway
def test_claims_of_processes_share_no_image(db, owner, database_url):
    """Four processes empty a queue and finish what they take: every image once, and every result."""
    id_ = factories.create_job(db, owner, *(f"{n}" for n in range(300)))
    command = [sys.executable, "-c", CLAIMER, database_url]
    claimers = [
        subprocess.Popen([*command, f"w{number}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    taken = collections.Counter()
    for claimer in claimers:
        out, err = claimer.communicate(timeout=60)
        assert (claimer.returncode, err) == (0, "")
        taken.update(out.split())
    while claims := factories.claim_images(
        db
    ):  # what the last to look could not see, because another was just taking it
        factories.complete_claims(db, claims)
        taken.update(claim.name for claim in claims)
    assert taken == dict.fromkeys((f"{n}" for n in range(300)), 1)
    assert factories.job_counts(db, id_) == {"done": 300}


def test_ten_rescuers_at_once_take_each_image_once(db, owner):
    """The attempts go up by one, and the sum of what all have found is what was lost."""
    factories.create_job(db, owner, *(f"{n}" for n in range(100)))
    factories.claim_images(db, limit=100)
    factories.expire_leases(db)
    found = at_once(10, lambda _: reaper.reap(db, max_attempts=3))
    assert sum(found) == 100
    assert set(factories.image_states(db).values()) == {("queued", 1)}


def test_ten_rescuers_at_once_fail_each_image_once(db, owner):
    """At the cap too: one result for each image, of several jobs, and counters that sum."""
    ids = [factories.create_job(db, owner, *(f"{job} {n}" for n in range(10))) for job in range(3)]
    factories.claim_images(db, limit=100)
    factories.expire_leases(db)
    at_once(10, lambda _: reaper.reap(db, max_attempts=1))
    assert [factories.job_counts(db, id_) for id_ in ids] == [{"failed": 10}] * 3
    assert len(factories.result_names(db)) == 30


def test_a_cancelling_and_finishing_and_claiming_at_once_keep_the_counters_right(db, owner):
    """In any order, every image has one outcome, and the counters match."""
    ids = [factories.create_job(db, owner, *(f"{job} {n}" for n in range(40))) for job in range(2)]

    def act(number):
        if number < 2:
            return db.write(jobs.cancel, ids[number], owner)
        for _ in range(8):
            claims = factories.claim_images(db, limit=5, worker=f"w{number}")
            factories.complete_claims(db, claims[:3])
            db.write(claim_queries.release, claims[3:])
        return None

    at_once(5, act)
    for id_ in ids:
        db.write(jobs.cancel, id_, owner)
        counts = factories.job_counts(db, id_)
        assert set(counts) <= {"done", "cancelled"}
        assert sum(counts.values()) == 40
    assert len(factories.result_names(db)) == 80


@pytest.mark.parametrize("change", [claim_queries.finish, claim_queries.release])
def test_finishing_and_rescuing_at_once_leave_one_fate(db, owner, change):
    """A batch that is late by a hair is its worker's or the rescue's, image by image, never both."""
    id_ = factories.create_job(db, owner, *(f"{n}" for n in range(50)))
    claims = factories.claim_images(db)
    factories.expire_leases(db)

    def act(number):
        if number:
            return reaper.reap(db, max_attempts=3)
        if change is claim_queries.finish:
            return factories.complete_claims(db, claims)
        return db.write(claim_queries.release, claims)

    mine, *_ = at_once(3, act)
    counts = factories.job_counts(db, id_)
    assert sum(counts.values()) == 50
    assert counts.get("done", 0) == (mine if change is claim_queries.finish else 0)
    assert len(factories.result_names(db)) == counts.get("done", 0)
