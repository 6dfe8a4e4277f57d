"""Claims of URL fetches: each key has a share, and what is not needed any more ends."""

import dataclasses

import sqlalchemy as sa

from core.db import new_image, tables
from core.db.queries import jobs, retries, url_fetches
from tests.support import factories

FETCHES = tables.UrlFetch.__table__


def submit(db, owner, count):
    """Create a job with so many images by URL; its id."""
    images = [
        dataclasses.replace(
            factories.new_image(f"{number}"),
            bytes=0,
            source=new_image.URL_SOURCE,
            url=f"https://photos.example/{number}",
        )
        for number in range(count)
    ]
    return db.write(factories.insert_job, factories.new_job(owner), images)


def claim(db, **options):
    return db.write(url_fetches.claim, **{"limit": 100, "max_per_owner": 100} | options)


def change_all(db, **values):
    db.write(lambda c: c.execute(sa.update(FETCHES).values(values)))


def rows(db):
    return db.read(lambda c: c.execute(sa.select(FETCHES).order_by(FETCHES.c.image_id)).all())


def test_one_key_is_not_given_all_threads(db, owner):
    """However many of one key are due first; and what it has in flight counts."""
    submit(db, owner, 10)
    other = factories.create_key(db)
    submit(db, other, 2)
    assert [found.owner for found in claim(db, limit=6, max_per_owner=3)] == [owner] * 3 + [other] * 2
    assert claim(db, limit=6, max_per_owner=3, in_flight={owner: 3}) == []
    assert [found.owner for found in claim(db, limit=6, max_per_owner=3, in_flight={owner: 1})] == [owner] * 2


def test_a_key_with_nothing_in_flight_comes_before_those_that_have_waited_longer(db, owner):
    """Else two keys with many fetches would take each thread that becomes free, until theirs are done."""
    second, third = factories.create_key(db, "second"), factories.create_key(db, "third")
    for key in (owner, second, third):
        submit(db, key, 10)
    assert [found.owner for found in claim(db, limit=6, max_per_owner=3)] == [owner] * 3 + [second] * 3
    in_flight = {owner: 2, second: 3}
    assert [found.owner for found in claim(db, limit=1, max_per_owner=3, in_flight=in_flight)] == [third]


def test_fetches_that_are_not_needed_do_not_take_the_share_of_another_key(db, owner):
    """Those of a cancelled job end when they are claimed."""
    job_id, other = submit(db, owner, 10), factories.create_key(db)
    submit(db, other, 1)
    db.write(jobs.cancel, job_id, owner)
    assert [found.owner for found in claim(db, limit=1, max_per_owner=1)] == [other]
    claim(db)
    assert [row.status for row in rows(db)] == ["failed"] * 10 + ["pending"]


def test_fetches_that_a_program_of_an_older_release_has_inserted_get_their_key(db, owner):
    """It does not know the column."""
    submit(db, owner, 3)
    change_all(db, api_key_id=None)
    assert [found.owner for found in claim(db, limit=2, max_per_owner=2)] == [owner] * 2
    assert [row.api_key_id for row in rows(db)] == [owner] * 3


def test_the_fetches_of_a_retry_are_of_its_key(db, owner):
    """They have a share as those of the first job had."""
    job_id = submit(db, owner, 2)
    for found in claim(db):
        db.write(url_fetches.fail, found, "fetch_failed", "It is not there.")
    retry_id = db.write(retries.create_retry, job_id, owner)
    assert [(found.owner, found.job_id) for found in claim(db)] == [(owner, retry_id)] * 2


def test_an_attempt_may_be_taken_back(db, owner):
    """By who holds its lease."""
    submit(db, owner, 1)
    (first,) = claim(db)
    db.write(url_fetches.retry_later, first, seconds=0, is_counted=False)
    (second,) = claim(db)
    assert (first.attempts, second.attempts) == (1, 1)
    db.write(url_fetches.retry_later, first, seconds=0, is_counted=False)
    assert claim(db) == []
    db.write(url_fetches.retry_later, second, seconds=0)
    assert claim(db)[0].attempts == 2
