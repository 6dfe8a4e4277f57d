import itertools
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from core import errors
from core.db import clock
from core.db.queries import claims as claim_queries
from core.db.queries import deletions, jobs, result_stats, results
from tests.support import factories

NEWEST = results.ResultOrder.NEWEST


def page(db, limit=100, **wanted):
    return [row.name for row in db.read(results.list_page, results.ResultFilter(**wanted), limit=limit)]


def change(c, table, where, **values):
    c.execute(sa.update(table).where(where).values(values))


@pytest.fixture
def mixed_results(db, owner):
    """Two owners, three jobs, five results of many kinds."""
    other = factories.create_key(db)
    one = factories.create_job(db, owner, "Lunch/one.jpg", "Lunch/two.jpg")
    two = factories.create_job(db, other, "dinner_1%.jpg")
    claims = factories.claim_images(db)
    fates = [
        factories.outcome(claims[0], label="sushi", confidence=0.9),
        claim_queries.Outcome(claims[1], error_code="undecodable", error_detail="No."),
        factories.outcome(claims[2], label="sandwich", confidence=0.6, familiarity=0.01),
    ]
    db.write(claim_queries.finish, fates, factories.MODEL_REF)
    three = factories.create_job(db, owner, "late.jpg")
    db.write(jobs.cancel, three, owner)
    db.write(
        factories.insert_job,
        factories.new_job(other),
        [factories.new_image("bad", errors.ImageFailed("empty", "Empty."))],
    )
    return {"other": other, "one": one, "two": two, "three": three}


ALL = ["Lunch/one.jpg", "Lunch/two.jpg", "dinner_1%.jpg", "late.jpg", "bad"]


def test_without_a_filter_everything_comes_in_order(db, mixed_results):
    """Every result, in the order in which the images came."""
    assert page(db) == ALL


@pytest.mark.parametrize("order", results.ResultOrder)
@pytest.mark.parametrize("wanted", [{}, {"label": "sushi"}, {"model": factories.MODEL}, {"status": "done"}], ids=str)
def test_results_of_a_deleted_job_are_hidden_from_every_caller(db, owner, mixed_results, order, wanted):
    """From the moment of the deletion on, also those who may read the results of every key; nor are they counted."""
    filters = results.ResultFilter(**wanted)
    before = db.read(results.list_page, filters, limit=100, order=order)
    assert mixed_results["one"] in {row.job_id for row in before}
    db.write(deletions.delete_job, mixed_results["one"], owner, owner)
    after = db.read(results.list_page, filters, limit=100, order=order)
    assert [row.name for row in after] == [row.name for row in before if row.job_id != mixed_results["one"]]
    left = db.read(results.list_page, filters, limit=100)
    assert sum(counted(db, "status", **wanted).values()) == len(left)


def test_by_owner_and_by_job(db, owner, mixed_results):
    """Whose, and of which job."""
    assert page(db, owner=owner) == ["Lunch/one.jpg", "Lunch/two.jpg", "late.jpg"]
    assert page(db, job=mixed_results["two"]) == ["dinner_1%.jpg"]
    assert page(db, owner=owner, job=mixed_results["two"]) == []


def test_what_ended_before_a_moment_is_found_wherever_its_number_lies(db, owner):
    """Late images of an early job, early images that end late, a moment beyond all, one in the middle of a job."""
    began = db.read(lambda c: c.execute(sa.select(clock.now())).scalar_one())
    moments = {}
    for hour in range(6):  # each job comes on the hour; of its three, the last ends two hours and a half later
        came = began + timedelta(hours=hour)
        id_ = factories.create_job(db, owner, *(f"{hour}{letter}" for letter in "abc"))
        factories.complete_claims(db, factories.claim_images(db))
        moments |= {f"{hour}{letter}": came + timedelta(hours=h) for letter, h in (("a", 0.1), ("b", 0.2), ("c", 2.5))}
        db.write(change, factories.JOBS, factories.JOBS.c.id == id_, created_at=came)
    for name, ended in moments.items():
        number = sa.select(factories.IMAGES.c.id).where(factories.IMAGES.c.name == name).scalar_subquery()
        db.write(change, factories.RESULTS, factories.RESULTS.c.image_id == number, finished_at=ended)
    for minutes in (-120, -1, 0, 1, 10, 20, 59, 61, 130, 190, 300, 460, 10_000):
        until = began + timedelta(minutes=minutes)
        before = [name for name, ended in moments.items() if ended < until]
        assert page(db, until=until) == before, minutes
        assert page(db, until=until, label="sushi") == before, minutes
        newest = db.read(results.list_page, results.ResultFilter(until=until), limit=5, order=NEWEST)
        assert [row.name for row in newest] == before[::-1][:5], minutes
    assert len(page(db, until=datetime.max.replace(tzinfo=UTC))) == len(moments)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"label": "sushi"}, ["Lunch/one.jpg"]),
        ({"label": "pizza"}, []),
        ({"min_confidence": 0.7}, ["Lunch/one.jpg"]),
        ({"max_confidence": 0.7}, ["dinner_1%.jpg"]),
        ({"min_familiarity": 0.1}, ["Lunch/one.jpg"]),
        ({"max_familiarity": 0.1}, ["dinner_1%.jpg"]),
        ({"min_confidence": 0.6, "max_confidence": 0.9}, ["Lunch/one.jpg", "dinner_1%.jpg"]),
        ({"status": "failed"}, ["Lunch/two.jpg", "bad"]),
        ({"status": "cancelled"}, ["late.jpg"]),
        ({"error": "undecodable"}, ["Lunch/two.jpg"]),
        ({"model": factories.MODEL}, ALL),
        ({"model": "another"}, []),
        ({"name": "LUNCH"}, ["Lunch/one.jpg", "Lunch/two.jpg"]),
        ({"name": "%"}, ["dinner_1%.jpg"]),
        ({"name": "_"}, ["dinner_1%.jpg"]),
        ({"name": "/"}, ["Lunch/one.jpg", "Lunch/two.jpg"]),
        ({"name": "lunch", "status": "done"}, ["Lunch/one.jpg"]),
    ],
)
def test_by_anything_else(db, mixed_results, wanted, found):
    """Each filter alone and together; a per cent sign is a per cent sign."""
    assert page(db, **wanted) == found


def test_by_time(db, mixed_results):
    """`since` includes its moment, `until` does not."""
    now = datetime.now(UTC)
    assert page(db, since=now - timedelta(hours=1), until=now + timedelta(hours=1)) == ALL
    assert page(db, since=now + timedelta(hours=1)) == []
    assert page(db, until=now - timedelta(hours=1)) == []
    moments = sorted(row.finished_at for row in db.read(results.list_page, results.ResultFilter(), limit=9))
    assert len(page(db, since=moments[0])) == 5
    assert page(db, until=moments[0]) == []


@pytest.mark.parametrize("order", results.ResultOrder)
def test_pages_meet_every_result_once(db, owner, order):
    """By keyset, in both directions."""
    factories.create_job(db, owner, *(f"{n}" for n in range(7)))
    factories.complete_claims(db, factories.claim_images(db))
    seen, after = [], None
    while not seen or after is not None:
        rows = db.read(results.list_page, results.ResultFilter(), after=after, limit=3, order=order)
        seen += [row.name for row in rows]
        after = rows.next_cursor
    expected = [str(n) for n in range(7)]
    assert seen == (expected[::-1] if order is results.ResultOrder.NEWEST else expected)


RARE = [
    ({}, range(24)),
    ({"name": "7"}, [7, 17]),
    ({"name": "no such"}, []),
    ({"min_confidence": 0.91}, [21, 22, 23]),
    ({"status": "failed"}, []),
    ({"label": "sushi"}, range(0, 24, 2)),
    ({"label": "sushi", "name": "1", "max_confidence": 0.8}, [10, 12, 14]),
    ({"model": factories.MODEL, "label": "sandwich", "name": "7"}, [7, 17]),
    ({"until": datetime(2100, 1, 1, tzinfo=UTC), "name": "2"}, [2, 12, 20, 21, 22, 23]),
]


def test_what_is_rare_is_found_a_stretch_at_a_time(db, owner):
    """However few of those that a page looks at are asked for: all are met, once, and every page looks at few."""
    factories.create_job(db, owner, *(f"{n}.jpg" for n in range(24)))
    fates = [
        factories.outcome(claim, label=("sushi", "sandwich")[n % 2], confidence=0.5 + n / 50)
        for n, claim in enumerate(factories.claim_images(db))
    ]
    db.write(claim_queries.finish, fates, factories.MODEL_REF)
    for order, (wanted, found) in itertools.product(results.ResultOrder, RARE):
        seen, after, pages = [], None, 0
        while pages == 0 or after is not None:
            rows = db.read(
                results.list_page, results.ResultFilter(**wanted), after=after, limit=4, order=order, max_scanned=5
            )
            assert len(rows) <= 4
            seen += [row.name for row in rows]
            after, pages = rows.next_cursor, pages + 1
        expected = [f"{n}.jpg" for n in found]
        assert seen == (expected[::-1] if order is results.ResultOrder.NEWEST else expected), (order, wanted)
        assert pages <= 24 // 4 + 1


def test_the_few_of_an_owner_are_found_on_the_first_page(db, owner):
    """However many others' lie before them."""
    other = factories.create_key(db)
    factories.create_job(db, other, "mine.jpg")
    factories.create_job(db, owner, *(f"{n}.jpg" for n in range(60)))
    factories.complete_claims(db, factories.claim_images(db))
    rows = db.read(
        results.list_page, results.ResultFilter(owner=other, name="mine"), limit=4, order=NEWEST, max_scanned=5
    )
    assert ([row.name for row in rows], rows.next_cursor) == (["mine.jpg"], None)
    rows = db.read(
        results.list_page, results.ResultFilter(owner=owner, name="59"), limit=4, order=NEWEST, max_scanned=5
    )
    assert ([row.name for row in rows], rows.next_cursor is None) == (["59.jpg"], False)


def read_pages(db, order, **wanted):
    """The names on all pages of 4 results; a page scans 5."""
    filters, pages, after = results.ResultFilter(**wanted), [], None
    while not pages or after is not None:
        rows = db.read(results.list_page, filters, limit=4, after=after, order=order, max_scanned=5)
        pages.append([row.name for row in rows])
        after = rows.next_cursor
    return pages


@pytest.mark.parametrize("order", [NEWEST, results.ResultOrder.CONFIDENCE])
def test_an_owner_of_many_results_is_not_one_of_few_because_others_have_the_latest(db, owner, monkeypatch, order):
    """Its results are not all read and sorted for a page; those of an owner of few are."""
    monkeypatch.setattr(results, "RECENT_RESULTS", 12)
    many, few = (factories.create_key(db, who) for who in ("many", "few"))
    factories.create_job(db, many, *(f"many {n}" for n in range(8)))
    factories.create_job(db, few, *(f"few {n}" for n in range(3)))
    factories.complete_claims(db, factories.claim_images(db), confidence=0.9)
    factories.create_job(db, owner, *(f"{n}" for n in range(12)))
    factories.complete_claims(db, factories.claim_images(db), confidence=0.5)
    pages = read_pages(db, order, owner=many)
    assert (pages[0], sorted(sum(pages, []))) == ([], [f"many {n}" for n in range(8)])  # noqa: RUF017 (few)
    assert sorted(read_pages(db, order, owner=few)[0]) == ["few 0", "few 1", "few 2"]


@pytest.mark.parametrize("is_latest", [False, True])
def test_results_of_a_version_are_ordered_by_confidence_whenever_they_came(db, owner, monkeypatch, is_latest):
    """Those of a version of many are not all read and sorted for a page; those of few are found on the first."""
    monkeypatch.setattr(results, "RECENT_RESULTS", 10)
    monkeypatch.setattr(results, "MANY_THRESHOLD", 3)
    for version, count in [("few", 3), ("many", 20)][:: -1 if is_latest else 1]:
        factories.create_job(db, owner, *(f"{version} {n:02}" for n in range(count)))
        confidence = {"few": 0.9, "many": 0.5}[version]
        fates = [factories.outcome(claim, confidence=confidence) for claim in factories.claim_images(db)]
        db.write(claim_queries.finish, fates, claim_queries.ModelRef(factories.MODEL, version, "0" * 64))
    order, model = results.ResultOrder.CONFIDENCE, factories.MODEL
    assert read_pages(db, order, version="few", model=model) == [["few 00", "few 01", "few 02"]]
    assert read_pages(db, order, version="many", model=model, name="19")[0] == []
    assert sorted(sum(read_pages(db, order, version="many"), [])) == [f"many {n:02}" for n in range(20)]  # noqa: RUF017 (few)


@pytest.mark.parametrize("order", [NEWEST, results.ResultOrder.CONFIDENCE])
@pytest.mark.parametrize("deleted_by_caller", [False, True])
def test_a_page_passes_a_limited_number_of_results_of_a_job_that_is_being_purged(db, owner, order, deleted_by_caller):
    """It may be empty, and still have a next one."""
    kept = factories.create_job(db, owner, "kept")
    factories.complete_claims(db, factories.claim_images(db), confidence=0.9)
    deleted = factories.create_job(db, owner, *(f"{n}" for n in range(8)))
    factories.complete_claims(db, factories.claim_images(db), confidence=0.5)
    values = {"purged_at": datetime.now(UTC), "deleted_by": owner if deleted_by_caller else None}
    db.write(lambda c: c.execute(sa.update(factories.JOBS).where(factories.JOBS.c.id == deleted).values(values)))
    assert read_pages(db, order) == [[], ["kept"]]
    assert read_pages(db, order, job=kept) == [["kept"]]


def test_the_least_confident_come_first(db, owner):
    """Those without a label not at all; equal ones in the order of their images."""
    factories.create_job(db, owner, *"abcde")
    claims = factories.claim_images(db)
    fates = [
        factories.outcome(claim, confidence=share)
        for claim, share in zip(claims[:4], (0.9, 0.5, 0.7, 0.5), strict=True)
    ]
    db.write(
        claim_queries.finish,
        [*fates, claim_queries.Outcome(claims[4], error_code="undecodable", error_detail="No.")],
        factories.MODEL_REF,
    )
    rows = db.read(results.list_page, results.ResultFilter(), limit=9, order=results.ResultOrder.CONFIDENCE)
    assert [row.name for row in rows] == ["b", "d", "c", "a"]


def test_the_least_familiar_come_first(db, owner):
    """Those of unknown familiarity not at all; a page begins where the one before ended."""
    factories.create_job(db, owner, *"abcde")
    for claim, share in zip(factories.claim_images(db), (0.9, 0.0, None, 0.0, 0.5), strict=True):
        factories.complete_claims(db, [claim], familiarity=share)
    pages, after = [], None
    while not pages or after is not None:
        rows = db.read(
            results.list_page, results.ResultFilter(), limit=2, after=after, order=results.ResultOrder.FAMILIARITY
        )
        pages.append([row.name for row in rows])
        after = rows.next_cursor
    assert pages == [["b", "d"], ["e", "a"], []]


def counted(db, group, **wanted):
    """The counts of each kind."""
    return {row.key: row.count for row in db.read(result_stats.count_by, results.ResultFilter(**wanted), group)}


def test_results_are_counted_by_what_they_are(db, mixed_results):
    """By each group; with a filter; and confidence is the mean of those that have one."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert counted(db, "status") == {"done": 2, "failed": 2, "cancelled": 1}
    assert counted(db, "label") == {"sushi": 1, "sandwich": 1, None: 3}
    assert counted(db, "error") == {"undecodable": 1, "empty": 1, "cancelled": 1, None: 2}
    assert counted(db, "model") == {f"{factories.MODEL} 1": 3, factories.MODEL: 2}
    assert sum(counted(db, "day").values()) == sum(counted(db, "hour").values()) == 5
    assert set(counted(db, "day")) <= {today, (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")}
    assert all(key.endswith(":00:00Z") for key in counted(db, "hour"))
    assert counted(db, "status", name="LUNCH") == {"done": 1, "failed": 1}
    (row,) = db.read(result_stats.count_by, results.ResultFilter(status="done"), "status")
    assert row.confidence == pytest.approx(0.75)
