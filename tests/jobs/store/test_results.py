from datetime import UTC, datetime, timedelta

import pytest

from jobs import errors, tables
from jobs.store import jobs, keys, results, work
from tests.jobs import making


def page(db, limit=100, **wanted):
    return [row.name for row in db.read(results.page, results.Filter(**wanted), limit=limit)]


@pytest.fixture
def full(db, owner):
    """Two owners, three jobs, five results of many kinds."""
    other = db.write(keys.create, "other", tables.Role.SUBMIT, keys.make()).id
    one = making.job(db, owner, "Lunch/one.jpg", "Lunch/two.jpg")
    two = making.job(db, other, "dinner_1%.jpg")
    claims = making.claim(db)
    fates = [
        making.fate(claims[0], label="sushi", confidence=0.9),
        work.Fate(claims[1], error_code="undecodable", error_detail="No."),
        making.fate(claims[2], label="sandwich", confidence=0.6),
    ]
    db.write(work.finish, fates, making.MAKER)
    three = making.job(db, owner, "late.jpg")
    db.write(jobs.cancel, three, owner)
    db.write(jobs.create, making.order(other), [making.image("bad", errors.BadPicture("empty", "Empty."))])
    return {"other": other, "one": one, "two": two, "three": three}


ALL = ["Lunch/one.jpg", "Lunch/two.jpg", "dinner_1%.jpg", "late.jpg", "bad"]


def test_without_a_filter_everything_comes_in_order(db, full):
    """Every result, in the order in which the images came."""
    assert page(db) == ALL


def test_by_owner_and_by_job(db, owner, full):
    """Whose, and of which job."""
    assert page(db, owner=owner) == ["Lunch/one.jpg", "Lunch/two.jpg", "late.jpg"]
    assert page(db, job=full["two"]) == ["dinner_1%.jpg"]
    assert page(db, owner=owner, job=full["two"]) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"label": "sushi"}, ["Lunch/one.jpg"]),
        ({"label": "pizza"}, []),
        ({"min_confidence": 0.7}, ["Lunch/one.jpg"]),
        ({"max_confidence": 0.7}, ["dinner_1%.jpg"]),
        ({"min_confidence": 0.6, "max_confidence": 0.9}, ["Lunch/one.jpg", "dinner_1%.jpg"]),
        ({"status": "failed"}, ["Lunch/two.jpg", "bad"]),
        ({"status": "cancelled"}, ["late.jpg"]),
        ({"error": "undecodable"}, ["Lunch/two.jpg"]),
        ({"model": making.MODEL}, ALL),
        ({"model": "another"}, []),
        ({"name": "LUNCH"}, ["Lunch/one.jpg", "Lunch/two.jpg"]),
        ({"name": "%"}, ["dinner_1%.jpg"]),
        ({"name": "_"}, ["dinner_1%.jpg"]),
        ({"name": "/"}, ["Lunch/one.jpg", "Lunch/two.jpg"]),
        ({"name": "lunch", "status": "done"}, ["Lunch/one.jpg"]),
    ],
)
def test_by_anything_else(db, full, wanted, found):
    """Each filter alone and together; a per cent sign is a per cent sign."""
    assert page(db, **wanted) == found


def test_by_time(db, full):
    """`since` includes its moment, `until` does not."""
    now = datetime.now(UTC)
    assert page(db, since=now - timedelta(hours=1), until=now + timedelta(hours=1)) == ALL
    assert page(db, since=now + timedelta(hours=1)) == []
    assert page(db, until=now - timedelta(hours=1)) == []
    moments = sorted(row.finished_at for row in db.read(results.page, results.Filter(), limit=9))
    assert len(page(db, since=moments[0])) == 5
    assert page(db, until=moments[0]) == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_meet_every_result_once(db, owner, newest_first):
    """By keyset, in both directions."""
    making.job(db, owner, *(f"{n}" for n in range(7)))
    making.finish(db, making.claim(db))
    seen, after = [], None
    options = {"limit": 3, "newest_first": newest_first}
    while rows := db.read(results.page, results.Filter(), after=after, **options):
        seen += [row.name for row in rows]
        after = rows[-1].image_id
    expected = [str(n) for n in range(7)]
    assert seen == (expected[::-1] if newest_first else expected)
