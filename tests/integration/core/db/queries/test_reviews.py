"""Reviews on both databases: their history, lists, counts, and the comparison of versions."""

import pytest
import sqlalchemy as sa

from core import enums, errors
from core.db import tables
from core.db.queries import claims as claim_queries
from core.db.queries import counters, jobs, models, retention, reviews, shadows
from tests.integration.core.db.queries.test_models import files, manifest
from tests.support import factories

REVIEWS, LEASES = tables.Review.__table__, tables.ReviewLease.__table__
NONE_OF_THESE = reviews.NewReview(enums.Verdict.NONE_OF_THESE)
BAD_IMAGE = reviews.NewReview(enums.Verdict.BAD_IMAGE)


def label(name, note=None):
    """Return a review that says the image has this label."""
    return reviews.NewReview(enums.Verdict.LABEL, name, note)


@pytest.fixture
def reviewer(db):
    """The id of a key that reviews."""
    return factories.create_key(db, "ann", enums.Role.REVIEW)


@pytest.fixture
def image_ids(db, owner):
    """Three images that the model calls sushi, and one that failed."""
    factories.create_job(db, owner, *"abcd")
    claims = factories.claim_images(db)
    failed = claim_queries.Outcome(claims[3], error_code="undecodable", error_detail="No.")
    outcomes = [*(factories.outcome(claim) for claim in claims[:3]), failed]
    db.write(claim_queries.finish, outcomes, factories.MODEL_REF)
    return [claim.image_id for claim in claims]


def listed(db, **filters):
    """Return (verdict, label) of the reviews that match, newest first."""
    rows = db.read(reviews.list_page, reviews.ReviewFilter(**filters), limit=100)
    return [(row.verdict, row.label) for row in rows]


def reviewed_counts(db):
    """Return the counter of reviewed images by strategy and outcome, without zeros."""
    totals = db.read(counters.totals)
    return {key[3:]: int(value) for key, value in totals.items() if key[0] == "reviews" and value}


def test_the_last_review_counts_and_the_history_is_kept(db, owner, reviewer, image_ids):
    """A correction replaces, a withdrawal leaves none; the result of the model stays."""
    image_id = image_ids[0]
    for review in (label("sandwich"), label("sushi", "on a plate"), NONE_OF_THESE):
        db.write(reviews.put, image_id, None, reviewer, review)
    assert listed(db) == [("none_of_these", None)]
    assert reviewed_counts(db) == {("by_hand", "none_of_these"): 1}
    db.write(reviews.withdraw, image_id, owner, reviewer)
    db.write(reviews.withdraw, image_id, owner, reviewer)
    assert listed(db) == []
    history = [("withdrawn", None), ("none_of_these", None), ("label", "sushi"), ("label", "sandwich")]
    assert listed(db, history=True) == history
    assert reviewed_counts(db) == {}
    db.write(reviews.put, image_id, None, reviewer, label("sandwich"))
    assert listed(db) == [("label", "sandwich")]
    assert reviewed_counts(db) == {("by_hand", "wrong"): 1}


def test_the_same_review_again_changes_nothing(db, reviewer, image_ids):
    """A client may repeat a request whose response was lost."""
    for _ in range(3):
        db.write(reviews.put, image_ids[0], None, reviewer, label("sushi"))
    assert listed(db, history=True) == [("label", "sushi")]
    assert reviewed_counts(db) == {("by_hand", "right"): 1}


def test_only_labels_of_the_model_are_accepted(db, reviewer, image_ids):
    """The error names them, and the closest."""
    with pytest.raises(errors.UnknownLabel, match=r"no label 'sushii' \(did you mean 'sushi'\?\); it has: sushi, sand"):
        db.write(reviews.put, image_ids[0], None, reviewer, label("sushii"))
    with pytest.raises(errors.NothingToReview, match="status failed"):
        db.write(reviews.put, image_ids[3], None, reviewer, BAD_IMAGE)
    assert listed(db, history=True) == []


def test_results_of_others_and_of_purged_jobs_are_not_found(db, owner, reviewer, image_ids):
    """As they are for every other query."""
    with pytest.raises(errors.ResultNotFound):
        db.write(reviews.put, image_ids[0], reviewer, reviewer, label("sushi"))
    with pytest.raises(errors.ResultNotFound):
        db.write(reviews.withdraw, 10**15, None, reviewer)
    db.write(reviews.put, image_ids[0], owner, reviewer, label("sushi"))
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(finished_at=sa.text("'2020-01-01 00:00:00'"))))
    db.write(retention.purge_step, days=1)
    assert listed(db) == []
    assert db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(REVIEWS)).scalar()) == 0
    with pytest.raises(errors.ResultNotFound):
        db.write(reviews.put, image_ids[0], owner, reviewer, label("sushi"))


def test_reviews_are_filtered_and_paged(db, owner, reviewer, image_ids):
    """By each property; a page begins where the one before ended."""
    for image_id, review in zip(image_ids, (label("sushi"), label("sandwich"), BAD_IMAGE), strict=False):
        db.write(reviews.put, image_id, None, reviewer, review)
    assert listed(db, label="sushi") == [("label", "sushi")]
    assert listed(db, verdict="bad_image", owner=owner, reviewed_by=reviewer) == [("bad_image", None)]
    assert listed(db, result=image_ids[1]) == listed(db, label="sandwich")
    assert listed(db, owner=reviewer) == listed(db, version="2") == listed(db, strategy="random") == []
    assert len(listed(db, model=factories.MODEL, version="1")) == 3
    first = db.read(reviews.list_page, reviews.ReviewFilter(), limit=2)
    second = db.read(reviews.list_page, reviews.ReviewFilter(), limit=2, after=first.next_cursor)
    assert [row.name for row in (*first, *second)] == ["c", "b", "a"]
    assert second.next_cursor is None


def test_versions_are_compared_on_reviewed_images(db, owner, reviewer):
    """Only images that both classified count; without a fitting label both are wrong; bad images do not count."""
    added = {v: db.write(models.add, manifest(v), files(v), None)[0] for v in "12"}
    factories.create_job(db, owner, *"abcdef")
    claims = factories.claim_images(db)
    db.write(claim_queries.finish, [factories.outcome(claim) for claim in claims], factories.MODEL_REF)
    by_shadow = dict(zip(claims[:5], ("sandwich", "sandwich", "sushi", "sandwich", "sushi"), strict=True))
    outcomes = [factories.outcome(claim, label=name) for claim, name in by_shadow.items()]
    db.write(shadows.record, added["2"].id, outcomes)
    says = (label("sandwich"), label("sandwich"), label("sushi"), NONE_OF_THESE, BAD_IMAGE, label("sandwich"))
    for claim, review in zip(claims, says, strict=True):
        db.write(reviews.put, claim.image_id, None, reviewer, review)
    row = db.read(reviews.compare, added["1"], added["2"])
    assert tuple(row) == (4, 1, 3, 0, 2)
    assert tuple(db.read(reviews.compare, added["2"], added["1"])) == (4, 3, 1, 2, 0)


def test_reviews_of_versions_are_counted(db, reviewer, image_ids):
    """With the stage of each version, and the rows that statistics are made of."""
    factories.make_live(db)
    db.write(reviews.put, image_ids[0], None, reviewer, label("sandwich"))
    (version,) = db.read(reviews.count_by_version, reviews.ReviewFilter())
    assert (version.model_name, version.model_version, version.reviewed) == (factories.MODEL, "1", 1)
    assert version.stage == "live"
    (row,) = db.read(reviews.list_judged, reviews.ReviewFilter(model=factories.MODEL, version="1"))
    assert (row.label, row.model_label, row.confidence, row.draw_probability) == ("sandwich", "sushi", 0.9, None)
    assert db.read(reviews.count_by_version, reviews.ReviewFilter(owner=reviewer)) == []


def test_a_cancelled_image_has_nothing_to_review(db, owner, reviewer):
    """It has a result, and no label."""
    job = factories.create_job(db, owner, "a")
    db.write(jobs.cancel, job, owner)
    image_id = db.read(lambda c: c.execute(sa.select(factories.IMAGES.c.id)).scalar())
    with pytest.raises(errors.NothingToReview, match="cancelled"):
        db.write(reviews.put, image_id, None, reviewer, NONE_OF_THESE)
