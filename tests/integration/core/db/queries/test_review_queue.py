"""The review queue on both databases: what each strategy chooses, and for whom."""

import collections

import pytest
import sqlalchemy as sa

from core import enums
from core.db import tables
from core.db.queries import claims as claim_queries
from core.db.queries import deletions, models, review_queue, reviews, shadows
from core.enums import Strategy
from tests.integration.core.db.queries.test_models import files, manifest
from tests.support import factories

REVIEWS, LEASES = tables.Review.__table__, tables.ReviewLease.__table__
RIGHT = reviews.NewReview(enums.Verdict.LABEL, "sushi")


@pytest.fixture
def people(db):
    """The ids of two keys that review."""
    return [factories.create_key(db, name, enums.Role.REVIEW) for name in ("ann", "bob")]


@pytest.fixture
def image_ids(db, owner):
    """Twelve images by name, of rising confidence and falling familiarity."""
    names = [chr(ord("a") + n) for n in range(12)]
    factories.create_job(db, owner, *names)
    claims = factories.claim_images(db)
    outcomes = [
        factories.outcome(claim, confidence=0.5 + n / 100, familiarity=1 - n / 100) for n, claim in enumerate(claims)
    ]
    db.write(claim_queries.finish, outcomes, factories.MODEL_REF)
    return {claim.name: claim.image_id for claim in claims}


def take(db, person, strategy, limit=3, **fields):
    """Return the names of the images that the queue leases to a person."""
    queue = review_queue.Queue(person, **{"model": factories.MODEL, "version": "1", "strategy": strategy} | fields)
    held = db.read(review_queue.outstanding, queue, limit=limit)
    selection = db.read(review_queue.select, queue, limit=limit - len(held))
    leased = db.write(review_queue.lease, queue, held, selection)
    names = dict(db.read(lambda c: c.execute(sa.select(factories.IMAGES.c.id, factories.IMAGES.c.name)).all()))
    return [names[image_id] for image_id in leased]


@pytest.mark.parametrize(
    ("strategy", "expected"), [(Strategy.LEAST_CONFIDENT, "abcdef"), (Strategy.UNFAMILIAR, "lkjihg")]
)
def test_two_people_get_different_images_in_the_order_of_the_strategy(db, people, image_ids, strategy, expected):
    """The same person gets the same images again until they are reviewed."""
    ann, bob = people
    assert take(db, ann, strategy) == list(expected[:3])
    assert take(db, bob, strategy) == list(expected[3:])
    assert take(db, ann, strategy) == list(expected[:3])
    db.write(reviews.put, image_ids[expected[1]], None, ann, RIGHT)
    rest = take(db, ann, strategy, limit=12)
    assert sorted(rest) == sorted(set(image_ids) - set(expected[3:]) - {expected[1]})


def test_images_of_a_deleted_job_are_not_chosen(db, owner, people, image_ids):
    """By no strategy, from the moment of the deletion on; also those that a person has leased."""
    for person, strategy in zip(people, (Strategy.LEAST_CONFIDENT, Strategy.UNFAMILIAR), strict=True):
        assert len(take(db, person, strategy)) == 3
    job_id = db.read(lambda c: c.execute(sa.select(factories.JOBS.c.id)).scalar_one())
    db.write(deletions.delete_job, job_id, owner, owner)
    for person in people:
        assert [take(db, person, strategy) for strategy in Strategy] == [[]] * len(Strategy)


def test_an_ended_lease_frees_the_image_and_a_late_review_still_says_how_it_was_chosen(db, people, image_ids):
    """Other people get the image; a review that comes late counts all the same."""
    ann, bob = people
    take(db, ann, Strategy.LEAST_CONFIDENT)
    db.write(lambda c: c.execute(sa.update(LEASES).values(lease_until=review_queue.clock.now(-1))))
    db.write(reviews.put, image_ids["a"], None, ann, RIGHT)
    assert take(db, bob, Strategy.LEAST_CONFIDENT) == ["b", "c", "d"]
    (row,) = db.read(lambda c: c.execute(sa.select(REVIEWS)).all())
    assert (row.strategy, row.draw_probability) == ("least_confident", None)


def test_other_versions_owners_and_failures_are_not_chosen(db, owner, people, image_ids):
    """By no strategy."""
    job = factories.create_job(db, owner, "failed")
    outcome = claim_queries.Outcome(factories.claim_images(db)[0], error_code="undecodable", error_detail="No.")
    db.write(claim_queries.finish, [outcome], factories.MODEL_REF)
    for strategy in Strategy:
        assert take(db, people[0], strategy, version="2") == []
        assert take(db, people[0], strategy, model="other") == []
        assert take(db, people[0], strategy, owner=people[1]) == []
        assert "failed" not in take(db, people[0], strategy, limit=50)
    assert job


def test_images_on_which_a_shadow_disagrees_are_chosen_newest_first(db, people, image_ids):
    """Not those on which it agrees or failed."""
    shadow = db.write(models.add, manifest("2"), files("2"), None)[0]
    claims = {name: claim_queries.Claim(image_id, "", name, "", 1, "me", None) for name, image_id in image_ids.items()}
    said = {"a": "sandwich", "b": "sushi", "d": "sandwich"}
    outcomes = [factories.outcome(claims[name], label=label) for name, label in said.items()]
    outcomes.append(claim_queries.Outcome(claims["e"], error_code="shadow_failed", error_detail="No."))
    db.write(shadows.record, shadow.id, outcomes)
    assert take(db, people[0], Strategy.DISAGREEMENT) == ["d", "a"]


def random_sample(db):
    """Return the names of the reviewed images that are in the random sample, with their probabilities."""
    query = sa.select(factories.IMAGES.c.name, REVIEWS.c.draw_probability).join(
        REVIEWS, REVIEWS.c.image_id == factories.IMAGES.c.id
    )
    query = query.where(REVIEWS.c.replaced_at.is_(None), REVIEWS.c.draw_probability.is_not(None))
    return dict(db.read(lambda c: c.execute(query).all()))


@pytest.mark.parametrize("exact", [True, False])
def test_every_image_is_drawn_as_often(db, people, image_ids, monkeypatch, exact):
    """Also those that were reviewed or leased before: they join the sample; by counting, and by rejection sampling."""
    if not exact:
        monkeypatch.setattr(review_queue, "MAX_SCANNED", 3)
        monkeypatch.setattr(review_queue, "DRAWS_PER_ROUND", 4)
    ann, bob = people
    take(db, bob, Strategy.UNFAMILIAR, limit=2)
    for name in "abc":
        db.write(reviews.put, image_ids[name], None, ann, RIGHT)
    drawn, queue = collections.Counter(), review_queue.Queue(ann, factories.MODEL, "1", Strategy.RANDOM)
    for _ in range(600):
        selection = db.read(review_queue.select, queue, limit=1)
        assert selection.draw_probability == (pytest.approx(1 / 12) if exact else pytest.approx(1 / 12, rel=0.01))
        drawn.update([*selection.image_ids, *selection.also_drawn_ids])
        assert not {image_ids[name] for name in "abc"} & set(selection.image_ids)
    expected = drawn.total() / 12
    assert len(drawn) == 12
    assert all(0.5 * expected < count < 1.6 * expected for count in drawn.values()), drawn


def test_a_random_sample_is_drawn_without_replacement(db, people, image_ids):
    """In the end every image is in it, with the reviews that were there before; each is shown once."""
    ann, bob = people
    for name in "abc":
        db.write(reviews.put, image_ids[name], None, bob, RIGHT)
    shown = []
    while names := take(db, ann, Strategy.RANDOM, limit=4):
        shown += names
        for name in names:
            db.write(reviews.put, image_ids[name], None, ann, RIGHT)
    assert sorted(shown) == sorted(set(image_ids) - set("abc"))
    sample = random_sample(db)
    assert set(shown) <= set(sample) <= set(image_ids)
    assert all(1 / 12 - 1e-9 <= probability <= 1 for probability in sample.values())
    db.write(reviews.withdraw, image_ids[shown[0]], None, ann)
    assert take(db, bob, Strategy.RANDOM) == [shown[0]]
    db.write(reviews.put, image_ids[shown[0]], None, ann, RIGHT)
    assert random_sample(db)[shown[0]] == sample[shown[0]]


def test_a_rare_version_is_found_among_many(db, people, image_ids, monkeypatch):
    """Where random ids do not meet it, it is drawn from among the newest results."""
    monkeypatch.setattr(review_queue, "MAX_SCANNED", 2)
    monkeypatch.setattr(review_queue, "DRAWS_PER_ROUND", 1)
    monkeypatch.setattr(review_queue, "MAX_ROUNDS", 0)
    assert sorted(take(db, people[0], Strategy.RANDOM)) == ["k", "l"]
