import threading

import pytest
import sqlalchemy as sa

from core import errors, settings
from core.db import tables
from core.db.queries import model_tests, models, workers
from core.intake import model_upload as uploads
from model.packaging import manifest
from tests.support import bundles, factories
from worker.models import loaded_model, model_manager

WORKERS = tables.Worker.__table__
OWN = bundles.SHIPPED_VERSION


@pytest.fixture
def database_url(sqlite_database_url):
    """Use SQLite only: tests/integration/core/db/queries/test_models.py tests the queries on both databases."""
    return sqlite_database_url


@pytest.fixture(scope="module")
def bundles_by_version(tmp_path_factory):
    """Make bundles by version; 9 fails its self-test, and `shapes` is another model."""
    folder = tmp_path_factory.mktemp("bundles")
    by_version = {
        version: bundles.make_bundle(folder, version, size=22, seed=int(version)) for version in ("12", "13", "14")
    }
    return by_version | {
        "9": bundles.make_failing_bundle(folder, size=22),
        "shapes": bundles.make_bundle(folder, "1", name="shapes", size=24),
    }


@pytest.fixture
def promote_version(db, blob_store, bundles_by_version, admin_key_id):
    """Add a version, if it is new, and promote it."""

    def promote(version, name=bundles.NAME):
        uploads.register_bundle(
            db, blob_store, bundles.read_files(bundles_by_version[name if name == "shapes" else version]), admin_key_id
        )
        db.write(model_tests.end, "", db.read(models.get_version, name, version).id, None)
        db.write(models.promote, name, version, admin_key_id)

    return promote


@pytest.fixture
def make_model_manager(db, blob_store, tmp_path):
    """Make model managers as a worker does at its start."""

    def make(worker="", **settings_fields):
        fields = {"device": "cpu", "model_cache": tmp_path / "cache"} | settings_fields
        manager = model_manager.ModelManager(settings.Settings(**fields), db, blob_store, worker)
        db.write(manager.register_default)
        manager.refresh()
        return manager

    return make


def version_of(manager, name=bundles.NAME):
    """Return the version of the next batch."""
    return manager.get(name).model_ref.version


def test_a_worker_serves_its_default_model_until_another_version_is_promoted(make_model_manager, promote_version):
    """It is served at the next refresh, without a restart."""
    manager = make_model_manager()
    assert manager.serving() == {bundles.NAME: OWN}
    promote_version("12")
    assert version_of(manager) == OWN
    manager.refresh()
    assert version_of(manager) == "12"
    assert manager.get(bundles.NAME).preprocess.width == 22


def test_a_rollback_is_followed(db, make_model_manager, promote_version, admin_key_id):
    """The former version is still loaded."""
    manager = make_model_manager()
    promote_version("12")
    manager.refresh()
    db.write(models.rollback, bundles.NAME, admin_key_id)
    manager.refresh()
    assert manager.get(bundles.NAME) is manager.default_model


def test_every_model_with_a_live_version_is_served(make_model_manager, promote_version):
    """By its name, with its own image size."""
    manager = make_model_manager()
    promote_version("1", "shapes")
    manager.refresh()
    assert manager.model_names() == ["shapes", bundles.NAME]
    assert (manager.get("shapes").model_ref.name, manager.get("shapes").preprocess.width) == ("shapes", 24)


def test_a_version_that_fails_its_self_test_is_rejected_and_the_former_stays(
    make_model_manager, promote_version, caplog
):
    """It is logged once, reported with its reason, and not retried."""
    manager = make_model_manager()
    promote_version("12")
    manager.refresh()
    promote_version("9")
    for _ in range(3):
        manager.refresh()
    assert version_of(manager) == "12"
    assert list(manager.rejected()) == [f"{bundles.NAME}@9"]
    assert "self-test fails" in manager.rejected()[f"{bundles.NAME}@9"]
    assert sum("is rejected" in record.message for record in caplog.records) == 1


def test_a_worker_that_starts_with_a_bad_version_serves_the_one_before(make_model_manager, promote_version):
    """The promotion before it counts."""
    promote_version("12")
    promote_version("9")
    manager = make_model_manager()
    assert version_of(manager) == "12"
    assert list(manager.rejected()) == [f"{bundles.NAME}@9"]


def test_a_rejected_version_is_retried_when_it_is_promoted_again(
    db, make_model_manager, promote_version, admin_key_id, monkeypatch
):
    """After a repair: roll back, and promote again."""
    manager = make_model_manager()
    with monkeypatch.context() as patch:
        patch.setattr(loaded_model.selftest, "check", lambda _: 1 / 0)
        promote_version("12")
        manager.refresh()
    assert "division by zero" in manager.rejected()[f"{bundles.NAME}@12"]
    db.write(models.rollback, bundles.NAME, admin_key_id)
    manager.refresh()
    assert manager.rejected() == {}
    db.write(models.promote, bundles.NAME, "12", admin_key_id)
    manager.refresh()
    assert version_of(manager) == "12"


def test_a_version_that_kills_workers_is_rejected_until_it_is_promoted_by_force(
    db, make_model_manager, promote_version, admin_key_id, monkeypatch
):
    """It is noted while it is loaded; a worker that starts after three were lost serves the version before."""
    promote_version("12")
    promote_version("13")
    model_id = db.read(models.get_version, bundles.NAME, "13").id
    notes, load = [], loaded_model.load_bundle

    def load_and_note(*arguments):
        query = sa.select(WORKERS.c.loading_model_id).where(WORKERS.c.id == "w1")
        notes.append(db.read(lambda conn: conn.execute(query).scalar()))
        return load(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(model_manager.loaded_model, "load_bundle", load_and_note)
        db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
        assert version_of(make_model_manager("w1")) == "13"
    assert notes == [None, model_id]  # the default one is not noted
    for name in ("l1", "l2", "l3"):
        db.write(workers.register, name, factories.MODEL_REF, "cpu")
    lost = sa.update(WORKERS).where(WORKERS.c.id != "w1")
    lost = lost.values(loading_model_id=model_id, heartbeat_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda conn: conn.execute(lost).rowcount)
    manager = make_model_manager()
    assert version_of(manager) == "12"
    assert "3 workers were lost" in manager.rejected()[f"{bundles.NAME}@13"]
    db.write(models.promote, bundles.NAME, "13", admin_key_id, retest=True)
    manager.refresh()
    assert version_of(manager) == "13"
    assert manager.rejected() == {}


def test_a_version_with_an_altered_blob_is_rejected(db, blob_store, make_model_manager, promote_version, admin_key_id):
    """Its digest differs, so it is not loaded."""
    manager = make_model_manager()
    promote_version("12")
    row = db.read(models.get_version, bundles.NAME, "12")
    blob_store.path(row.files["weights.safetensors"]).write_bytes(b"other")
    manager.refresh()
    assert version_of(manager) == OWN
    assert "not the file that was added" in manager.rejected()[f"{bundles.NAME}@12"]


def test_an_unreadable_bundle_does_not_stop_the_tests_of_later_ones(
    db, blob_store, make_model_manager, bundles_by_version, admin_key_id
):
    """Its outcome is recorded as that of any other bundle that cannot be used."""
    manager = make_model_manager()
    for version in ("12", "13"):
        uploads.register_bundle(db, blob_store, bundles.read_files(bundles_by_version[version]), admin_key_id)
    first, second = (db.read(models.get_version, bundles.NAME, version) for version in ("12", "13"))
    blob_store.path(first.files["weights.safetensors"]).write_bytes(b"other")
    manager.test_next()
    manager.test_next()
    first, second = (db.read(models.get_version, bundles.NAME, version) for version in ("12", "13"))
    assert "not the file that was added" in first.test_error
    assert (second.tested_at is None, second.test_error) == (False, None)


def test_a_bundle_that_cannot_be_fetched_does_not_stop_the_tests_of_later_ones(
    db, blob_store, make_model_manager, bundles_by_version, admin_key_id
):
    """It is tested when its store gives it; nothing is recorded meanwhile."""
    manager = make_model_manager()
    for version in ("12", "13"):
        uploads.register_bundle(db, blob_store, bundles.read_files(bundles_by_version[version]), admin_key_id)
    first = db.read(models.get_version, bundles.NAME, "12")
    weights = blob_store.path(first.files["weights.safetensors"])
    kept = weights.read_bytes()
    weights.unlink()
    weights.symlink_to(weights)
    manager.test_next()
    first, second = (db.read(models.get_version, bundles.NAME, version) for version in ("12", "13"))
    assert (first.tested_at, second.tested_at is None, second.test_error) == (None, False, None)
    weights.unlink()
    weights.write_bytes(kept)
    manager.test_next()
    assert db.read(models.get_version, bundles.NAME, "12").tested_at is not None


def test_an_unavailable_store_postpones_the_swap(blob_store, make_model_manager, promote_version, monkeypatch):
    """The version is not rejected; the former one is served until the store is back."""
    manager = make_model_manager()
    promote_version("12")
    with monkeypatch.context() as patch:
        patch.setattr(blob_store, "get", lambda _: (_ for _ in ()).throw(errors.BlobsUnavailable("Away.")))
        manager.refresh()
        assert (version_of(manager), manager.rejected()) == (OWN, {})
    manager.refresh()
    assert version_of(manager) == "12"


def test_without_the_registry_the_served_versions_stay(make_model_manager, promote_version, monkeypatch):
    """The caller gets the error."""
    manager = make_model_manager()
    monkeypatch.setattr(manager._db, "read", lambda *_: (_ for _ in ()).throw(errors.DatabaseUnavailable("Away.")))
    with pytest.raises(errors.DatabaseUnavailable):
        manager.refresh()
    assert version_of(manager) == OWN


def test_loaded_versions_are_limited_and_evicted_ones_are_loaded_again(
    make_model_manager, promote_version, monkeypatch
):
    """The least recently used version is evicted; its bundle comes from the cache."""
    manager = make_model_manager(max_loaded_models=1)
    promote_version("12")
    promote_version("1", "shapes")
    manager.refresh()
    loads = []
    load = loaded_model.load_bundle
    monkeypatch.setattr(
        loaded_model, "load_bundle", lambda folder, device: loads.append(folder.name) or load(folder, device)
    )
    for name in (bundles.NAME, bundles.NAME, "shapes", bundles.NAME):
        assert manager.get(name).model_ref.name == name
    assert len(loads) >= 2
    loads.clear()
    manager.get(bundles.NAME)
    assert loads == []


def test_a_version_bundled_with_other_workers_is_rejected_without_its_bundle(db, make_model_manager):
    """A newer release has registered its own; the older worker keeps serving its default."""
    manager = make_model_manager()
    bundled = {"name": bundles.NAME, "version": "77", "digest": "7" * 64, "labels": ["a", "b"]}
    db.write(models.register_bundled, bundled)
    manager.refresh()
    assert version_of(manager) == OWN
    assert "was bundled with other workers" in manager.rejected()[f"{bundles.NAME}@77"]


def test_an_upload_under_the_default_bundle_s_version_takes_precedence(
    db, blob_store, make_model_manager, tmp_path, admin_key_id, caplog
):
    """The registry had it first: the worker logs it, and serves the upload under that name and version."""
    path = bundles.make_bundle(tmp_path, OWN, size=22)
    uploads.register_bundle(db, blob_store, bundles.read_files(path), admin_key_id)
    db.write(models.promote, bundles.NAME, OWN, admin_key_id)
    manager = make_model_manager()
    assert (
        manager.get(bundles.NAME).model_ref.digest
        == manifest.read(path).digest
        != manager.default_model.model_ref.digest
    )
    assert "the registry's is served" in caplog.text


def test_shadows_are_known_by_their_share(db, blob_store, make_model_manager, bundles_by_version, admin_key_id):
    """They are gone once the share is zero."""
    manager = make_model_manager()
    uploads.register_bundle(db, blob_store, bundles.read_files(bundles_by_version["13"]), admin_key_id)
    db.write(models.set_shadow_share, bundles.NAME, "13", 0.25)
    manager.refresh()
    assert [(version.version, version.share) for version in manager.shadow_versions(bundles.NAME)] == [("13", 0.25)]
    assert version_of(manager) == OWN
    db.write(models.set_shadow_share, bundles.NAME, "13", 0)
    manager.refresh()
    assert manager.shadow_versions(bundles.NAME) == []


def test_a_version_can_be_got_while_versions_change(db, make_model_manager, promote_version, admin_key_id):
    """Every call returns a version, and only versions that were live."""
    manager = make_model_manager(max_loaded_models=1)
    promote_version("12")
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            seen.add(version_of(manager))

    thread = threading.Thread(target=read)
    thread.start()
    for version in ("13", "14", "12", "13"):
        promote_version(version)
        manager.refresh()
    stop.set()
    thread.join()
    assert seen <= {OWN, "12", "13", "14"}
    assert version_of(manager) == "13"
