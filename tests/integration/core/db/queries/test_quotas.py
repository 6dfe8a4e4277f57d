import concurrent.futures
import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from core import errors
from core.db import clock, tables
from core.db.expressions import IMAGES
from core.db.queries import api_keys, jobs, new_images, quotas, retries, scans
from tests.support import factories

KEYS = tables.ApiKey.__table__
Q = quotas.Quotas


def order(db, owner, key_quotas, *names, **fields):
    """A job under quotas; each image has 1,234 bytes."""
    return factories.create_job(db, owner, *names, key_quotas=key_quotas, **fields)


def ago(db, seconds):
    """Let so many seconds have passed since anything was spent."""
    row = db.read(
        lambda c: c.execute(sa.select(KEYS.c.tokens_updated_at).where(KEYS.c.tokens_updated_at.is_not(None))).scalar()
    )
    db.write(lambda c: c.execute(sa.update(KEYS).values(tokens_updated_at=row - dt.timedelta(seconds=seconds))))


def test_a_minute_is_spent_and_comes_back(db, owner):
    """Six images a minute: the seventh is too many, and ten seconds later it is not."""
    key_quotas = Q(images_per_minute=6)
    order(db, owner, key_quotas, *"abcdef")
    with pytest.raises(errors.RateLimited) as refused:
        order(db, owner, key_quotas, "g")
    assert 5 < refused.value.retry_after <= 10
    assert factories.image_states(db).keys() == set("abcdef")
    ago(db, 11)
    order(db, owner, key_quotas, "g")
    with pytest.raises(errors.RateLimited):
        order(db, owner, key_quotas, "h")


def test_bytes_are_counted_as_images_are(db, owner):
    """Whichever is spent first."""
    key_quotas = Q(images_per_minute=100, bytes_per_minute=3000)
    order(db, owner, key_quotas, "a", "b")
    with pytest.raises(errors.RateLimited, match="bytes"):
        order(db, owner, key_quotas, "c")


@pytest.mark.parametrize("limit", ["work_seconds_per_minute", "bytes_per_minute"])
def test_a_charge_afterwards_is_paid_for_by_the_next_submissions(db, owner, limit):
    """Nothing is refused to a key without debts; then everything, until the following minutes have paid."""
    key_quotas = Q(**{limit: 60})
    unit = "seconds" if limit.startswith("work") else "bytes"

    def submit(*images):
        db.write(factories.insert_job, factories.new_job(owner, key_quotas=key_quotas), list(images))

    image = new_images.NewImage("a", "0" * 64, 0)  # of a URL
    submit(image)
    loads = {owner: quotas.Load(**{unit: 50})}
    assert db.read(quotas.limited_loads, loads, key_quotas) == loads
    assert db.read(quotas.limited_loads, loads, Q(images_per_minute=60)) == {}
    db.write(quotas.charge_afterwards, loads, key_quotas)
    submit(image)
    db.write(quotas.charge_afterwards, {owner: quotas.Load(**{unit: 40})}, key_quotas)
    with pytest.raises(errors.RateLimited, match=r"none of its 60 (seconds of work|bytes of images)") as refused:
        submit(image)
    assert 20 < refused.value.retry_after <= 30
    submit()
    ago(db, 31)
    submit(image)


def test_a_limit_that_is_set_later_begins_with_a_whole_minute(db, owner):
    """Images sent while there was none do not count as a debt."""
    for name in "abc":
        order(db, owner, Q(images_per_minute=100), name)

    order(db, owner, Q(images_per_minute=100, bytes_per_minute=2000), "d")
    with pytest.raises(errors.RateLimited, match="bytes"):
        order(db, owner, Q(images_per_minute=100, bytes_per_minute=2000), "e")


def test_a_key_without_limits_is_not_charged(db, owner):
    """Its row is not written."""
    db.write(quotas.charge_afterwards, {owner: quotas.Load(seconds=50, bytes=50)}, Q())
    query = sa.select(KEYS.c.work_tokens, KEYS.c.tokens_updated_at).where(KEYS.c.id == owner)
    assert tuple(db.read(lambda c: c.execute(query).one())) == (None, None)


def test_an_order_larger_than_a_minute_is_paid_for_by_the_next(db, owner):
    """It is taken when the minute is whole; else it never could be."""
    key_quotas = Q(images_per_minute=2)
    order(db, owner, key_quotas, *"abcde")
    with pytest.raises(errors.RateLimited) as refused:
        order(db, owner, key_quotas, "f")
    assert 110 < refused.value.retry_after <= 120
    ago(db, 121)
    order(db, owner, key_quotas, "f")


def test_what_is_open_is_limited_and_what_has_ended_is_not(db, owner):
    """Capacity returns as images are finished."""
    key_quotas = Q(open_images=3)
    order(db, owner, key_quotas, *"abc")
    with pytest.raises(errors.QuotaExceeded):
        order(db, owner, key_quotas, "d")
    factories.complete_claims(db, factories.claim_images(db, limit=2))
    order(db, owner, key_quotas, "d", "e")
    with pytest.raises(errors.QuotaExceeded):
        order(db, owner, key_quotas, "f")


def test_what_can_never_be_open_is_refused_for_good(db, owner):
    """Waiting would not help: the sender learns that it must send less."""
    with pytest.raises(errors.TooManyImages, match="3 open at a time"):
        order(db, owner, Q(open_images=3), *"abcd")
    with pytest.raises(errors.TooManyImages, match="bytes"):
        order(db, owner, Q(open_bytes=1000), "a")


def test_an_open_job_grows_within_the_quotas_too(db, owner):
    """And a name that it has already costs nothing."""
    key_quotas = Q(open_images=2, images_per_minute=2)
    job = order(db, owner, key_quotas, "a", sealed=False)
    db.write(jobs.add_images, job, owner, [factories.new_image("b")], key_quotas)
    db.write(jobs.add_images, job, owner, [factories.new_image("a"), factories.new_image("b")], key_quotas)
    with pytest.raises(errors.TemporarilyRejected):
        db.write(jobs.add_images, job, owner, [factories.new_image("c")], key_quotas)
    assert factories.image_states(db).keys() == {"a", "b"}


def test_a_repeat_spends_nothing(db, owner):
    """The same order under the same key is the same job, however little is left."""
    key_quotas = Q(images_per_minute=1, open_images=1)
    first = order(db, owner, key_quotas, "a", idempotency_key="k")
    assert order(db, owner, key_quotas, "a", idempotency_key="k") == first


def test_a_retry_is_an_order_too(db, owner):
    """A retried image is open again; a second request returns the same job."""
    job = factories.create_job(db, owner, *"abc")
    factories.complete_claims(
        db, factories.claim_images(db), label=None, confidence=None, scores=None, error_code="x", error_detail="y"
    )
    with pytest.raises(errors.TooManyImages):
        db.write(retries.create_retry, job, owner, Q(open_images=2))
    again = db.write(retries.create_retry, job, owner, Q(open_images=3))
    assert db.write(retries.create_retry, job, owner, Q(open_images=3)) == again
    assert db.read(quotas.open_load, owner) == quotas.Load(3, 3 * 1234)


def test_a_retried_image_has_the_key_of_its_job(db, owner):
    """Else the retries of all keys would share one turn, and their work would be charged to none."""
    job = factories.create_job(db, owner, *"ab")
    factories.complete_claims(
        db, factories.claim_images(db), label=None, confidence=None, scores=None, error_code="x", error_detail="y"
    )
    retry = db.write(retries.create_retry, job, owner)
    query = sa.select(IMAGES.c.api_key_id).where(IMAGES.c.job_id == retry)
    assert db.read(lambda conn: conn.execute(query).scalars().all()) == [owner] * 2


@pytest.mark.parametrize("key_quotas", [Q(open_images=5), Q(images_per_minute=5)])
def test_many_at_once_get_no_more_than_there_is(db, owner, key_quotas):
    """Ten orders at the same moment for five places: five are taken, whichever."""

    def one(number):
        try:
            return order(db, owner, key_quotas, str(number))
        except errors.TemporarilyRejected:
            return None

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        taken = [id_ for id_ in pool.map(one, range(10)) if id_]
    assert len(taken) == len(factories.image_states(db)) == 5


def test_keys_do_not_spend_of_each_other(db, owner):
    """Each key has its own."""
    other = factories.create_key(db)
    key_quotas = Q(images_per_minute=1, open_images=1)
    order(db, owner, key_quotas, "a")
    order(db, other, key_quotas, "a")


def test_another_measure_begins_with_a_whole_minute(db, owner):
    """A raised quota takes effect at once."""
    order(db, owner, Q(images_per_minute=1), "a")
    db.write(api_keys.update, owner, {"images_per_minute": 2})
    order(db, owner, Q(images_per_minute=2), "b", "c")


def test_the_load_is_what_has_no_result(db, owner):
    """Of a key and of each; bytes by the mean image of each job."""
    other = factories.create_key(db)
    factories.create_job(db, owner, *"abcd")
    factories.create_job(db, other, "a", sealed=False)
    factories.create_job(db, other, sealed=False)
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    expected = {owner: quotas.Load(3, 3 * 1234), other: quotas.Load(1, 1234)}
    assert {key: db.read(quotas.open_load, key) for key in expected} == db.read(quotas.open_loads) == expected


def test_what_is_stored_of_a_key_is_what_it_has_sent(db, owner):
    """Finished images too, until they are purged; without those that stay in a source."""
    factories.create_job(db, owner, *"ab")
    purged = factories.create_job(db, owner, "c")
    imported = factories.create_job(db, owner, "d", sealed=False)
    db.write(scans.create, imported, owner, scans.NewScan("source"))
    is_purged = sa.update(factories.JOBS).where(factories.JOBS.c.id == purged).values(purged_at=clock.now())
    db.write(lambda conn: conn.execute(is_purged))
    factories.complete_claims(db, factories.claim_images(db))
    assert db.read(quotas.stored_loads) == {owner: quotas.Load(2, 2 * 1234)}


def test_a_key_s_own_quota_goes_before_the_default():
    """None means the default, 0 means no limit."""
    own = Q(images_per_minute=0, open_images=7).with_defaults(Q(1, 2, 3, 4, 5))
    assert dataclasses.astuple(own) == (0, 2, 7, 4, 5)
    assert not Q(0, 0, 0, 0, 0).is_limited
