"""Fair claims, on both databases."""

import pytest
import sqlalchemy as sa

from core import enums
from core.db.queries import expired_leases, fair_claims, new_images
from core.db.queries.fair_claims import QueuedKey, Turn
from tests.support import factories


def submit(db, owner, count, priority=enums.Priority.BULK, same=False):
    """Create a job of a key; its images are all different, or all the same."""
    images = [new_images.NewImage(f"{n}.png", f"{0 if same else n:064}", 10) for n in range(count)]
    return db.write(factories.insert_job, factories.new_job(owner, priority=priority), images)


@pytest.fixture
def two_owners(db):
    """The ids of two keys."""
    return [factories.create_key(db, name) for name in "ab"]


def claim(db, turns, limit=8, **options):
    """Claim a batch by these turns; return its claims by key, and whether it is full."""
    options = {"limits": {factories.MODEL: limit}, "lease_seconds": 30} | options

    def take_turns(keys, _bulk_first):
        return [turn for turn in turns if turn.key in {key.id for key in keys}]

    batch = db.write(fair_claims.claim, "w", {factories.MODEL: False}, take_turns, **options)
    counts = {}
    for each in batch.claims:
        counts[each.api_key_id] = counts.get(each.api_key_id, 0) + 1
    return counts, batch.is_full


def test_the_keys_with_queued_images_are_found(db, two_owners):
    """Each once, with the priority of its first image; not those whose images are all claimed."""
    a, b = two_owners
    assert db.read(fair_claims.queued_keys, factories.MODEL) == []
    submit(db, a, 3)
    submit(db, b, 2)
    submit(db, b, 1, enums.Priority.INTERACTIVE)
    assert sorted(db.read(fair_claims.queued_keys, factories.MODEL), key=lambda key: key.is_interactive) == [
        QueuedKey(a, is_interactive=False),
        QueuedKey(b, is_interactive=True),
    ]
    assert db.read(fair_claims.queued_keys, "another-model") == []
    claim(db, [Turn(b, 1, 100)])
    assert db.read(fair_claims.queued_keys, factories.MODEL) == [QueuedKey(a, is_interactive=False)]


def test_keys_share_a_batch_by_weight(db, two_owners):
    """The rest of a key that has few images is for the others, and the batch is full while any key has more."""
    a, b = two_owners
    submit(db, a, 20)
    submit(db, b, 7)
    assert claim(db, [Turn(b, 1, 100), Turn(a, 1, 100)]) == ({a: 4, b: 4}, True)
    assert claim(db, [Turn(b, 3, 100), Turn(a, 1, 100)]) == ({a: 5, b: 3}, True)
    assert claim(db, [Turn(b, 1, 100), Turn(a, 1, 100)]) == ({a: 8}, True)
    assert claim(db, [Turn(b, 1, 100), Turn(a, 1, 100)]) == ({a: 3}, False)


def test_the_first_key_gets_what_the_others_leave(db, two_owners):
    a, b = two_owners
    submit(db, a, 20)
    submit(db, b, 1)
    assert claim(db, [Turn(a, 1, 100), Turn(b, 1, 100)]) == ({a: 7, b: 1}, True)


def test_slow_images_come_few_at_a_time_and_equal_ones_together(db, two_owners):
    """The limit counts different images: those with the same bytes are decoded once."""
    a, b = two_owners
    submit(db, a, 20)
    submit(db, b, 20, same=True)
    assert claim(db, [Turn(a, 1, 2)]) == ({a: 2}, True)
    assert claim(db, [Turn(b, 1, 1)]) == ({b: 8}, True)
    assert claim(db, [Turn(a, 1, 2), Turn(b, 1, 1)], limit=6) == ({a: 2, b: 4}, True)


def test_images_without_a_key_have_their_turn(db, two_owners):
    """A program of the release before inserts them during an upgrade."""
    a, _ = two_owners
    submit(db, a, 2)
    db.write(lambda conn: conn.execute(sa.update(factories.IMAGES).values(api_key_id=None)).rowcount)
    assert db.read(fair_claims.queued_keys, factories.MODEL) == [QueuedKey(None, is_interactive=False)]
    assert claim(db, [Turn(None, 1, 100)]) == ({None: 2}, False)


def test_an_image_that_was_lost_comes_alone(db, two_owners):
    """No other key's images share its batch; a worker with images in hand leaves it."""
    a, b = two_owners
    submit(db, a, 1)
    factories.claim_images(db, worker="lost")
    factories.expire_leases(db)
    db.write(expired_leases.requeue, max_attempts=3)
    submit(db, b, 2)
    assert QueuedKey(a, is_interactive=False, next_attempts=1) in db.read(fair_claims.queued_keys, factories.MODEL)
    assert claim(db, [Turn(a, 1, 100), Turn(b, 1, 100)], only_new=True) == ({b: 2}, False)
    assert claim(db, [Turn(a, 1, 100), Turn(b, 1, 100)]) == ({a: 1}, False)


@pytest.mark.parametrize("reason", ["in a source that does not answer", "lost before, while others are in hand"])
def test_keys_without_claimable_images_do_not_take_the_turns_of_others(db, reason):
    """However many they are, and also if they have had less than all others."""
    owners = sorted(factories.create_key(db, f"key {n}") for n in range(9))
    for owner in owners[:8]:
        submit(db, owner, 1)
    values = {"source": "photos", "location": "1.jpg"} if reason.startswith("in a source") else {"attempt": 1}
    db.write(lambda conn: conn.execute(sa.update(factories.IMAGES).values(values)).rowcount)
    submit(db, owners[8], 2)
    batch = db.write(
        fair_claims.claim,
        "w",
        {factories.MODEL: False},
        lambda keys, _bulk_first: [Turn(key.id, 1, 100) for key in sorted(keys, key=lambda key: key.id)[:8]],
        limits={factories.MODEL: 8},
        lease_seconds=30,
        only_new=True,
    )
    assert [each.api_key_id for each in batch.claims] == [owners[8]] * 2


def test_images_in_sources_are_claimed_by_workers_that_read_them(db, two_owners):
    """However many sources a worker reads; another worker leaves them."""
    a, b = two_owners
    submit(db, a, 2)
    db.write(lambda conn: conn.execute(sa.update(factories.IMAGES).values(source="photos", location="1")).rowcount)
    submit(db, b, 1)
    turns = [Turn(a, 1, 100), Turn(b, 1, 100)]
    assert claim(db, turns, sources=["camera"]) == ({b: 1}, False)
    assert claim(db, turns, sources=["camera", "photos"]) == ({a: 2}, False)


def test_the_turns_depend_on_whether_bulk_images_come_first(db, two_owners):
    """As the worker says for each model."""
    submit(db, two_owners[0], 1)
    said = []
    for bulk_first in (False, True):
        models = {"another-model": not bulk_first, factories.MODEL: bulk_first}
        turns = lambda _, first: said.append(first) or []  # noqa: E731
        db.write(fair_claims.claim, "w", models, turns, limits={factories.MODEL: 8}, lease_seconds=30)
    assert said == [False, True]


def test_a_claim_takes_two_statements(db, two_owners):
    """The keys, and the images; a claim that finds nothing takes one."""
    submit(db, two_owners[0], 3)
    statements = []
    record = lambda _connection, _cursor, statement, *_: statements.append(statement.split()[0])  # noqa: E731
    sa.event.listen(db.engine, "before_cursor_execute", record)
    assert claim(db, [Turn(two_owners[0], 1, 100)]) == ({two_owners[0]: 3}, False)
    assert claim(db, [Turn(two_owners[0], 1, 100)]) == ({}, False)
    assert [word for word in statements if word != "BEGIN"] == ["WITH", "WITH", "WITH"]
