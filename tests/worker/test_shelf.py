import threading

import pytest

from jobs import bundles as uploads
from jobs import errors, settings, tables
from jobs.store import keys, models
from model import manifest
from tests import bundles
from worker import shelf

OWN = bundles.OWN


@pytest.fixture
def database_url(sqlite_database_url):
    """What is asked of the database is tried on both kinds where it is asked: tests/jobs/store/test_models.py."""
    return sqlite_database_url


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Bundles by their versions; 9 fails its self-test, and `shapes` is another model."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {version: bundles.make(folder, version, size=22, seed=int(version)) for version in ("12", "13", "14")}
    return found | {"9": bundles.lying(folder, size=22), "shapes": bundles.make(folder, "1", name="shapes", size=24)}


@pytest.fixture
def who(db):
    """An admin; the id of their key."""
    return db.write(keys.create, "boss", tables.Role.ADMIN, keys.make()).id


@pytest.fixture
def promote(db, store, made, who):
    """Adds a version, if it is not there, and makes it live."""

    def promote(version, name=bundles.NAME):
        uploads.take_in(db, store, bundles.files(made[name if name == "shapes" else version]), who)
        db.write(models.promote, name, version, who)

    return promote


@pytest.fixture
def served(db, store, tmp_path):
    """Makes shelves as a worker does at its start."""

    def make(**more):
        chosen = {"device": "cpu", "model_cache": tmp_path / "cache"} | more
        one = shelf.Shelf(settings.Settings(**chosen), db, store)
        db.write(one.settle)
        one.refresh()
        return one

    return make


def version_of(one, name=bundles.NAME):
    """The version that would answer the next batch."""
    return one.take(name).maker.version


def test_a_worker_serves_what_it_comes_with_until_another_is_promoted(served, promote):
    """Then that, without a restart; and the first again when the promotion is taken back."""
    one = served()
    assert one.serves() == {bundles.NAME: OWN}
    promote("12")
    assert version_of(one) == OWN
    one.refresh()
    assert version_of(one) == "12"
    assert one.take(bundles.NAME).how.width == 22


def test_a_rollback_is_taken_up_too(db, served, promote, who):
    """The former one is on the shelf still."""
    one = served()
    promote("12")
    one.refresh()
    db.write(models.rollback, bundles.NAME, who)
    one.refresh()
    assert one.take(bundles.NAME) is one.own


def test_every_model_with_a_live_version_is_served(served, promote):
    """By its name, with its own labels and size."""
    one = served()
    promote("1", "shapes")
    one.refresh()
    assert one.names() == ["shapes", bundles.NAME]
    assert (one.take("shapes").maker.name, one.take("shapes").how.width) == ("shapes", 24)


def test_a_version_that_fails_its_self_test_is_refused_and_the_former_goes_on(served, promote, caplog):
    """It is logged once, told with its reason, and not tried again and again."""
    one = served()
    promote("12")
    one.refresh()
    promote("9")
    for _ in range(3):
        one.refresh()
    assert version_of(one) == "12"
    assert list(one.refuses()) == [f"{bundles.NAME}@9"]
    assert "self-test fails" in one.refuses()[f"{bundles.NAME}@9"]
    assert sum("is refused" in record.message for record in caplog.records) == 1


def test_a_worker_that_starts_with_a_bad_version_serves_the_one_before(served, promote):
    """Not nothing: the promotion before it counts."""
    promote("12")
    promote("9")
    one = served()
    assert version_of(one) == "12"
    assert list(one.refuses()) == [f"{bundles.NAME}@9"]


def test_a_refused_version_is_tried_again_when_it_is_promoted_again(db, served, promote, who, monkeypatch):
    """A fault that was mended meanwhile: roll back, promote."""
    one = served()
    with monkeypatch.context() as broken:
        broken.setattr(shelf.selftest, "check", lambda _: 1 / 0)
        promote("12")
        one.refresh()
    assert "division by zero" in one.refuses()[f"{bundles.NAME}@12"]
    db.write(models.rollback, bundles.NAME, who)
    one.refresh()
    assert one.refuses() == {}
    db.write(models.promote, bundles.NAME, "12", who)
    one.refresh()
    assert version_of(one) == "12"


def test_a_blob_that_was_altered_is_refused(db, store, served, promote, who):
    """Its digest is another: it is not loaded."""
    one = served()
    promote("12")
    row = db.read(models.version, bundles.NAME, "12")
    store.path(row.files["weights.safetensors"]).write_bytes(b"other")
    one.refresh()
    assert version_of(one) == OWN
    assert "not the file that was added" in one.refuses()[f"{bundles.NAME}@12"]


def test_a_store_that_is_away_puts_the_swap_off(store, served, promote, monkeypatch):
    """Nothing is refused for it; the former version serves until the store is back."""
    one = served()
    promote("12")
    with monkeypatch.context() as away:
        away.setattr(store, "get", lambda _: (_ for _ in ()).throw(errors.BlobsUnavailable("Away.")))
        one.refresh()
        assert (version_of(one), one.refuses()) == (OWN, {})
    one.refresh()
    assert version_of(one) == "12"


def test_a_registry_that_does_not_answer_leaves_the_shelf_as_it_is(served, promote, monkeypatch):
    """Who asked is told."""
    one = served()
    monkeypatch.setattr(one._db, "read", lambda *_: (_ for _ in ()).throw(errors.DatabaseUnavailable("Away.")))
    with pytest.raises(errors.DatabaseUnavailable):
        one.refresh()
    assert version_of(one) == OWN


def test_only_so_many_versions_are_held_and_the_rest_is_loaded_again(served, promote, monkeypatch):
    """The one that was used longest ago goes first; what was fetched comes from the cache."""
    one = served(models_held=1)
    promote("12")
    promote("1", "shapes")
    one.refresh()
    loads = []
    load = shelf.load
    monkeypatch.setattr(shelf, "load", lambda *given: loads.append(given[0].name) or load(*given))
    for name in (bundles.NAME, bundles.NAME, "shapes", bundles.NAME):
        assert one.take(name).maker.name == name
    assert len(loads) >= 2
    loads.clear()
    one.take(bundles.NAME)
    assert loads == []


def test_a_version_that_comes_with_other_workers_is_refused_by_those_without_it(db, served):
    """A newer release has entered its own; the older worker goes on with what it has."""
    one = served()
    about = {"name": bundles.NAME, "version": "77", "digest": "7" * 64, "labels": ["a", "b"]}
    db.write(models.settle, about)
    one.refresh()
    assert version_of(one) == OWN
    assert "comes with other workers" in one.refuses()[f"{bundles.NAME}@77"]


def test_an_upload_under_the_version_of_the_settings_bundle_is_what_counts(db, store, served, tmp_path, who, caplog):
    """The registry came first: the worker says so, and serves nothing else under that name and version."""
    path = bundles.make(tmp_path, OWN, size=22)
    uploads.take_in(db, store, bundles.files(path), who)
    db.write(models.promote, bundles.NAME, OWN, who)
    one = served()
    assert one.take(bundles.NAME).maker.digest == manifest.read(path).digest != one.own.maker.digest
    assert "is what counts" in caplog.text


def test_shadows_are_known_by_their_share(db, store, served, made, who):
    """And no more when that ends."""
    one = served()
    uploads.take_in(db, store, bundles.files(made["13"]), who)
    db.write(models.shadow, bundles.NAME, "13", 0.25)
    one.refresh()
    assert [(version.version, version.share) for version in one.shadows(bundles.NAME)] == [("13", 0.25)]
    assert version_of(one) == OWN
    db.write(models.shadow, bundles.NAME, "13", 0)
    one.refresh()
    assert one.shadows(bundles.NAME) == []


def test_batches_are_taken_while_versions_change(db, served, promote, who):
    """A reader never meets a gap, and only versions that were live."""
    one = served(models_held=1)
    promote("12")
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            seen.add(version_of(one))

    thread = threading.Thread(target=read)
    thread.start()
    for version in ("13", "14", "12", "13"):
        promote(version)
        one.refresh()
    stop.set()
    thread.join()
    assert seen <= {OWN, "12", "13", "14"}
    assert version_of(one) == "13"
