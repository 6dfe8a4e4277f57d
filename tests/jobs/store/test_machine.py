"""The store against a model of it that a child could draw: each image in one place, each place counted."""

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import stateful
from hypothesis import strategies as st

from jobs import errors, rescue, tables
from jobs.store import jobs, keys, work
from tests.jobs import making

MAX_ATTEMPTS = 2
ENDED = {"done", "failed", "cancelled"}
BAD = errors.BadPicture("empty", "Empty.")
names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=4)


class Machine(stateful.RuleBasedStateMachine):
    """What people and workers do, in any order; after each step the database says what the model says."""

    def __init__(self, db):
        super().__init__()
        self.db = db
        self.owner = db.write(keys.create, "somebody", tables.Role.SUBMIT, keys.make()).id
        self.images = {}  # (job, name) -> status
        self.sealed = set()
        self.hands = []  # every claim ever made, with whether it still holds
        self.keys = {}

    created = stateful.Bundle("jobs")

    @stateful.rule(target=created, names=names, bad=st.booleans(), sealed=st.booleans(), key=st.sampled_from("xy-"))
    def create(self, names, bad, sealed, key):
        order = making.order(
            self.owner,
            sealed=sealed,
            idempotency_key=None if key == "-" else key,
            fingerprint=f"{names}{bad}{sealed}",
        )
        images = [making.image(name, BAD if bad and not number else None) for number, name in enumerate(names)]
        known = self.keys.get(order.idempotency_key)
        if known and known[1] != order.fingerprint:
            with pytest.raises(errors.IdempotencyMismatch):
                self.db.write(jobs.create, order, images)
            return known[0]
        id_ = self.db.write(jobs.create, order, images)
        if known:
            assert id_ == known[0]
            return id_
        if order.idempotency_key:
            self.keys[key] = (id_, order.fingerprint)
        self.images |= {(id_, image.name): "failed" if image.error else "queued" for image in images}
        if sealed:
            self.sealed.add(id_)
        return id_

    @stateful.rule(job=created, names=names)
    def add(self, job, names):
        new = [name for name in names if (job, name) not in self.images]
        images = [making.image(name) for name in names]
        if new and job in self.sealed:
            with pytest.raises(errors.JobSealed):
                self.db.write(jobs.add, job, self.owner, images)
            return
        assert self.db.write(jobs.add, job, self.owner, images) == len(new)
        self.images |= {(job, name): "queued" for name in new}

    @stateful.rule(job=created)
    def seal(self, job):
        self.db.write(jobs.seal, job, self.owner)
        self.sealed.add(job)

    @stateful.rule(job=created)
    def cancel(self, job):
        self.db.write(jobs.cancel, job, self.owner)
        self.sealed.add(job)
        for image in [image for image, status in self.images.items() if status == "queued" and image[0] == job]:
            self.images[image] = "cancelled"

    @stateful.rule(limit=st.integers(1, 5), bulk=st.booleans())
    def claim(self, limit, bulk):
        claims = making.claim(self.db, limit=limit, bulk_first=bulk, worker=f"w{len(self.hands)}")
        queued = [image for image, status in self.images.items() if status == "queued"]
        assert bool(claims) == bool(queued)
        assert len(claims) <= limit
        for claim in claims:
            assert self.images[claim.job_id, claim.name] == "queued"
            self.images[claim.job_id, claim.name] = "running"
            self.hands.append([claim, True])

    @stateful.precondition(lambda self: self.hands)
    @stateful.rule(data=st.data(), good=st.booleans())
    def finish(self, data, good):
        hands = data.draw(st.lists(st.sampled_from(self.hands), unique_by=lambda hand: hand[0].image_id, min_size=1))
        fields = {} if good else {"label": None, "error_code": "undecodable"}
        assert making.finish(self.db, [claim for claim, _ in hands], **fields) == sum(holds for _, holds in hands)
        self._let_go(hands, "done" if good else "failed")

    @stateful.precondition(lambda self: self.hands)
    @stateful.rule(data=st.data())
    def release(self, data):
        hands = data.draw(st.lists(st.sampled_from(self.hands), unique_by=lambda hand: hand[0].image_id, min_size=1))
        held = self.db.write(work.release, [claim for claim, _ in hands])
        assert held == sum(holds for _, holds in hands)
        self._let_go(hands, "queued")

    @stateful.rule()
    def rescue(self):
        making.let_leases_end(self.db)
        rescue.sweep(self.db, max_attempts=MAX_ATTEMPTS)
        for hand in self.hands:
            self._let_go([hand], "queued" if hand[0].attempt < MAX_ATTEMPTS else "failed")

    def _let_go(self, hands, status):
        for hand in hands:
            claim, holds = hand
            if holds:
                self.images[claim.job_id, claim.name] = status
                hand[1] = False

    @stateful.invariant()
    def every_image_is_where_the_model_has_it(self):
        query = sa.select(making.IMAGES.c.job_id, making.IMAGES.c.name, making.IMAGES.c.status)
        rows = {(job, name): status for job, name, status in self.db.read(lambda c: c.execute(query).all())}
        # What comes back to a cancelled job may be queued, or cancelled there and then.
        for image, status in rows.items():
            if status == "cancelled" and self.images[image] == "queued":
                assert making.view(self.db, image[0]).cancelled_at is not None
                self.images[image] = "cancelled"
        assert rows == self.images

    @stateful.invariant()
    def what_has_ended_has_one_result_and_nothing_else_has(self):
        ended = sorted(name for (_, name), status in self.images.items() if status in ENDED)
        assert making.results(self.db) == ended

    @stateful.invariant()
    def the_counters_of_every_job_are_right(self):
        for job in {job for job, _ in self.images} | self.sealed:
            statuses = [status for (id_, _), status in self.images.items() if id_ == job]
            assert making.counts(self.db, job) == {status: statuses.count(status) for status in set(statuses)}
            over = job in self.sealed and set(statuses) <= ENDED
            assert (making.view(self.db, job).finished_at is not None) == over

    def teardown(self):
        for table in reversed(tables.Base.metadata.sorted_tables):
            self.db.write(lambda c, table=table: c.execute(sa.delete(table)))


def test_whatever_happens_every_image_is_in_one_place_and_counted_there(db):
    """Any order of create, add, seal, cancel, claim, finish, release and rescue keeps the books right."""
    quick = hypothesis.settings(
        max_examples=30,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],  # shrinking takes minutes with a real database
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    stateful.run_state_machine_as_test(lambda: Machine(db), settings=quick)
