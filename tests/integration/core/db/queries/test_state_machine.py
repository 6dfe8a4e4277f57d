"""The store against a model of it that a child could draw: each image in one place, each place counted."""

import contextlib
import itertools

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import stateful
from hypothesis import strategies as st

from core import errors
from core.db import tables
from core.db.queries import claims as claim_queries
from core.db.queries import expired_leases, jobs
from tests.support import factories

MAX_ATTEMPTS = 2
ENDED = {"done", "failed", "cancelled"}
BAD = errors.ImageFailed("empty", "Empty.")
names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=4)
# Before which statement of the transaction its process dies, the first time; beyond the last one: before the commit.
deaths = st.none() | st.integers(0, 9)


class Died(Exception):
    """As a process that is killed: its connection is gone, and with it the transaction."""


class Machine(stateful.RuleBasedStateMachine):
    """Clients and workers act in any order; after each step the database matches the model."""

    def __init__(self, db):
        super().__init__()
        self.db = db
        self.owner = factories.create_key(db, "submitter")
        self.images = {}  # (job, name) -> status
        self.sealed = set()
        self.hands = []  # every claim ever made, with whether it still holds
        self.keys = {}

    created = stateful.Bundle("jobs")

    def write(self, death, query, *args, **kwargs):
        """Run a query; with a death, it is first cut off there, which must leave no trace."""
        if death is not None:
            self._die(death, lambda c: query(c, *args, **kwargs))
            self.every_image_is_where_the_model_has_it()
            self.what_has_ended_has_one_result_and_nothing_else_has()
            self.the_counters_of_every_job_are_right()
        return self.db.write(query, *args, **kwargs)

    def _die(self, death, query):
        left = itertools.count(death, -1)

        def count(*_):
            if next(left) <= 0:
                raise Died

        def doomed(c):
            sa.event.listen(self.db.engine, "before_cursor_execute", count)
            try:
                query(c)
            finally:
                sa.event.remove(self.db.engine, "before_cursor_execute", count)
            raise Died

        with contextlib.suppress(Died, errors.ClientError):
            self.db.write(doomed)

    @stateful.rule(
        target=created, names=names, bad=st.booleans(), sealed=st.booleans(), key=st.sampled_from("xy-"), death=deaths
    )
    def create(self, names, bad, sealed, key, death):
        order = factories.new_job(
            self.owner,
            sealed=sealed,
            idempotency_key=None if key == "-" else key,
            fingerprint=f"{names}{bad}{sealed}",
        )
        images = [factories.new_image(name, BAD if bad and not number else None) for number, name in enumerate(names)]
        known = self.keys.get(order.idempotency_key)
        if known and known[1] != order.fingerprint:
            with pytest.raises(errors.IdempotencyMismatch):
                self.db.write(factories.insert_job, order, images)
            return known[0]
        id_ = self.write(death, factories.insert_job, order, images)
        if known:
            assert id_ == known[0]
            return id_
        if order.idempotency_key:
            self.keys[key] = (id_, order.fingerprint)
        self.images |= {(id_, image.name): "failed" if image.error else "queued" for image in images}
        if sealed:
            self.sealed.add(id_)
        return id_

    @stateful.rule(job=created, names=names, death=deaths)
    def add(self, job, names, death):
        new = [name for name in names if (job, name) not in self.images]
        images = [factories.new_image(name) for name in names]
        if new and job in self.sealed:
            with pytest.raises(errors.JobSealed):
                self.db.write(jobs.add_images, job, self.owner, images)
            return
        assert self.write(death, jobs.add_images, job, self.owner, images) == len(new)
        self.images |= {(job, name): "queued" for name in new}

    @stateful.rule(job=created, death=deaths)
    def seal(self, job, death):
        self.write(death, jobs.seal, job, self.owner)
        self.sealed.add(job)

    @stateful.rule(job=created, death=deaths)
    def cancel(self, job, death):
        self.write(death, jobs.cancel, job, self.owner)
        self.sealed.add(job)
        for image in [image for image, status in self.images.items() if status == "queued" and image[0] == job]:
            self.images[image] = "cancelled"

    @stateful.rule(limit=st.integers(1, 5), bulk=st.booleans(), only_new=st.booleans(), death=deaths)
    def claim(self, limit, bulk, only_new, death):
        how = {"limit": limit, "bulk_first": bulk, "only_new": only_new}
        claims = self.write(death, factories.claim_of_all_keys, f"w{len(self.hands)}", **how)
        queued = [image for image, status in self.images.items() if status == "queued"]
        assert bool(claims) == bool(queued) or (only_new and not claims)
        assert not (only_new and any(claim.was_lost for claim in claims))
        assert len(claims) <= limit
        for claim in claims:
            assert self.images[claim.job_id, claim.name] == "queued"
            self.images[claim.job_id, claim.name] = "running"
            self.hands.append([claim, True])

    @stateful.precondition(lambda self: any(hand[0].was_lost for hand in self.hands))
    @stateful.rule(data=st.data(), death=deaths)
    def start(self, data, death):
        again = [hand for hand in self.hands if hand[0].was_lost]
        hands = data.draw(st.lists(st.sampled_from(again), unique_by=lambda hand: hand[0].image_id, min_size=1))
        started = self.write(death, claim_queries.begin_attempt, [claim for claim, _ in hands])
        assert {claim.image_id for claim in started} == {claim.image_id for claim, holds in hands if holds}
        for claim in started:
            (hand,) = [hand for hand in hands if hand[0].image_id == claim.image_id]
            assert claim.attempt == hand[0].attempt + 1 <= MAX_ATTEMPTS
            hand[1] = False  # this attempt cannot write any more
            self.hands.append([claim, True])

    @stateful.precondition(lambda self: self.hands)
    @stateful.rule(data=st.data(), good=st.booleans(), death=deaths)
    def finish(self, data, good, death):
        hands = data.draw(st.lists(st.sampled_from(self.hands), unique_by=lambda hand: hand[0].image_id, min_size=1))
        fields = {} if good else {"label": None, "error_code": "undecodable"}
        fates = [factories.outcome(claim, **fields) for claim, _ in hands]
        finished = self.write(death, claim_queries.finish, fates, factories.MODEL_REF)
        assert len(finished.results) == sum(holds for _, holds in hands)
        self._let_go(hands, "done" if good else "failed")

    @stateful.precondition(lambda self: self.hands)
    @stateful.rule(data=st.data(), death=deaths)
    def release(self, data, death):
        hands = data.draw(st.lists(st.sampled_from(self.hands), unique_by=lambda hand: hand[0].image_id, min_size=1))
        held = self.write(death, claim_queries.release, [claim for claim, _ in hands])
        assert held == sum(holds for _, holds in hands)
        self._let_go(hands, "queued")

    @stateful.rule(death=deaths)
    def rescue(self, death):
        factories.expire_leases(self.db)
        self.write(death, expired_leases.requeue, max_attempts=MAX_ATTEMPTS)
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
        query = sa.select(factories.IMAGES.c.job_id, factories.IMAGES.c.name, factories.IMAGES.c.status)
        rows = {(job, name): status for job, name, status in self.db.read(lambda c: c.execute(query).all())}
        # Images released to a cancelled job may be queued, or cancelled at once.
        for image, status in rows.items():
            if status == "cancelled" and self.images[image] == "queued":
                assert factories.get_job(self.db, image[0]).cancelled_at is not None
                self.images[image] = "cancelled"
        assert rows == self.images

    @stateful.invariant()
    def what_has_ended_has_one_result_and_nothing_else_has(self):
        ended = sorted(name for (_, name), status in self.images.items() if status in ENDED)
        assert factories.result_names(self.db) == ended

    @stateful.invariant()
    def the_counters_of_every_job_are_right(self):
        for job in {job for job, _ in self.images} | self.sealed:
            statuses = [status for (id_, _), status in self.images.items() if id_ == job]
            assert factories.job_counts(self.db, job) == {status: statuses.count(status) for status in set(statuses)}
            over = job in self.sealed and set(statuses) <= ENDED
            assert (factories.get_job(self.db, job).finished_at is not None) == over

    def teardown(self):
        for table in reversed(tables.Base.metadata.sorted_tables):
            self.db.write(lambda c, table=table: c.execute(sa.delete(table)))


def test_whatever_happens_every_image_is_in_one_place_and_counted_there(db):
    """Any order of what people and workers do, each cut off before any of its statements, keeps the books right."""
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
