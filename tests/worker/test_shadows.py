import threading
import time

import numpy as np
import pytest
import sqlalchemy as sa

from jobs import bundles as uploads
from jobs import settings, tables
from jobs.store import keys, models, work
from tests import bundles
from tests.jobs import making
from worker import decoders, shadows, shelf

SHADOWS = tables.Shadow.__table__
LIMITS = decoders.Limits(10, 768_000_000)


@pytest.fixture
def database_url(sqlite_database_url):
    """What is asked of the database is tried on both kinds where it is asked: tests/jobs/store/test_shadows.py."""
    return sqlite_database_url


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Candidates: 12 and 13 see pictures in sizes of their own; 9 cannot be used."""
    folder = tmp_path_factory.mktemp("bundles")
    two = bundles.make(folder, "12", size=64, always="sushi")
    return {"12": two, "13": bundles.make(folder, "13", size=40, seed=3), "9": bundles.lying(folder, size=22)}


@pytest.fixture
def served(db, store, tmp_path, made):
    """A worker's shelf, with these versions as shadows: {version: share}."""
    one = shelf.Shelf(settings.Settings(device="cpu", model_cache=tmp_path / "cache"), db, store)
    db.write(one.settle)

    def make(**shares):
        who = db.write(keys.create, "boss", tables.Role.ADMIN, keys.make()).id
        for name, share in shares.items():
            uploads.take_in(db, store, bundles.files(made[name[1:]]), who)
            db.write(models.shadow, bundles.NAME, name[1:], share)
        one.refresh()
        return one

    return make


@pytest.fixture
def thread(db, store):
    """Starts shadows beside a shelf."""
    started = []

    def start(on, db=db):
        started.append(shadows.Shadows(db, on, store, LIMITS))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def answer(db, owner, put, good):
    """Lets the live version of a shelf answer so many pictures; what is then offered to shadows."""

    def answer(on, count, bad=()):
        sha256s = [put(good(number)) for number in range(count)]
        job = making.incoming.NewImage
        images = [job(f"{number:02}", sha256, 100) for number, sha256 in enumerate(sha256s)]
        db.write(making.jobs.create, making.order(owner, fresh=True), images)
        claims = making.claim(db, limit=count)
        how = on.own.how
        pixels = np.stack([how.pixels(good(number)) for number in range(count)])
        refusal = decoders.errors.BadPicture("undecodable", "No.")
        outcomes = [decoders.Outcome(refusal if row in bad else None, 1.0) for row in range(count)]
        fates = on.own.judge.fates(claims, pixels, outcomes)
        db.write(work.finish, fates, on.own.maker)
        return shadows.Answered(on.own, claims, pixels, outcomes)

    return answer


def rows(db, count, seconds=20.0):
    """What the shadows wrote, when it is so many rows."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = db.read(lambda c: c.execute(sa.select(SHADOWS).order_by(SHADOWS.c.model_id, SHADOWS.c.image_id)).all())
        if len(found) >= count:
            break
        time.sleep(0.05)
    assert len(found) == count
    return found


def test_a_shadow_judges_its_share_of_what_was_answered(db, served, thread, answer):
    """The same pixels, its own labels, a table of its own; the results stay as they are."""
    on = served(v12=0.5)
    answered = answer(on, 40)
    before = db.read(lambda c: c.execute(sa.select(making.RESULTS)).all())
    thread(on).offer(answered)
    expected = [claim.image_id for claim in answered.claims if shadows.chosen(claim.image_id, 0.5)]
    found = rows(db, len(expected))
    assert [row.image_id for row in found] == expected
    assert {row.label for row in found} == {"sushi"}
    assert all(row.error_code is None and row.timings["batch"] == len(expected) for row in found)
    assert db.read(lambda c: c.execute(sa.select(making.RESULTS)).all()) == before


def test_a_shadow_that_sees_pictures_otherwise_decodes_them_itself(db, served, thread, answer, good, made):
    """What it says is what its bundle says of the file."""
    from model import bundle, classifier

    on = served(v13=1.0)
    thread(on).offer(answer(on, 6))
    found = rows(db, 6)
    alone = classifier.Classifier(bundle.load(made["13"]), "cpu")
    pixels = np.stack([alone.bundle.preprocess.pixels(good(number)) for number in range(6)])
    best = alone.classify(pixels).max(axis=1)
    assert [row.confidence for row in found] == pytest.approx(list(best), abs=1e-3)


def test_pictures_that_nobody_could_decode_are_not_asked_for(db, served, thread, answer):
    """They are no fault of a candidate."""
    on = served(v12=1.0)
    thread(on).offer(answer(on, 5, bad={1, 3}))
    assert len(rows(db, 3)) == 3


def test_several_shadows_judge_the_same_pictures(db, served, thread, answer):
    """So that they can be compared with each other too."""
    on = served(v12=0.4, v13=0.4)
    thread(on).offer(answered := answer(on, 20))
    expected = [claim.image_id for claim in answered.claims if shadows.chosen(claim.image_id, 0.4)]
    found = rows(db, 2 * len(expected))
    assert [row.image_id for row in found] == expected * 2


def test_a_shadow_that_cannot_be_loaded_is_counted_and_then_left_out(db, served, thread, answer):
    """Its pictures are its errors; the next batch it is not asked."""
    on = served(v9=1.0)
    one = thread(on)
    one.offer(answer(on, 4))
    assert {row.error_code for row in rows(db, 4)} == {"shadow_failed"}
    assert "self-test fails" in on.refuses()[f"{bundles.NAME}@9"]
    one.offer(answer(on, 4))
    time.sleep(0.2)
    rows(db, 4)


def test_a_shadow_that_breaks_down_harms_nobody(db, served, thread, answer, monkeypatch):
    """Neither the thread nor the one who offers; the next batch is judged."""
    on = served(v12=1.0)
    one = thread(on)
    answered = answer(on, 3)
    with monkeypatch.context() as broken:
        broken.setattr(shadows.classify.Judge, "fates", lambda *_: 1 / 0)
        one.offer(answered)
        assert {row.error_code for row in rows(db, 3)} == {"shadow_failed"}
    one.offer(answer(on, 3))
    assert sum(row.error_code is None for row in rows(db, 6)) == 3


def test_whoever_offers_never_waits_and_what_is_too_much_is_dropped(db, served, thread, answer, monkeypatch):
    """The shadows stand still: the live way does not notice, and the memory that they hold has an end."""
    on = served(v12=1.0)
    one, go = thread(on), threading.Event()
    judge = one._judge
    monkeypatch.setattr(one, "_judge", lambda *given: go.wait(30) and judge(*given))
    answered = answer(on, 2)
    one.offer(answered)
    started = time.monotonic()
    for _ in range(3 * shadows.MOST_WAITING):
        one.offer(answered)
    assert time.monotonic() - started < 5
    assert one.dropped >= 2 * shadows.MOST_WAITING
    go.set()
    rows(db, 2)


def test_an_offer_never_fails(served, thread, answer, caplog):
    """Whatever is wrong is in the log, and the results are committed already."""
    on = served(v12=1.0)
    answered = answer(on, 2)
    one = thread(on)
    one._shelf = None
    one.offer(answered)
    assert "could not be offered" in caplog.text


def test_a_share_is_a_share_and_belongs_to_every_larger_one():
    """The same pictures each time, spread over all."""
    small, large = ({id_ for id_ in range(20_000) if shadows.chosen(id_, share)} for share in (0.1, 0.3))
    assert small < large
    assert len(small) == pytest.approx(2000, abs=200)
    assert len(large) == pytest.approx(6000, abs=300)
    assert not any(shadows.chosen(id_, 0.0) for id_ in range(1000))
    assert all(shadows.chosen(id_, 1.0) for id_ in range(1000))
