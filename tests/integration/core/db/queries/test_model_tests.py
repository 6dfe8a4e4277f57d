"""Tests of model versions, as the registry records them."""

import pytest
import sqlalchemy as sa

from core import enums
from core.db import tables
from core.db.queries import model_tests, models, workers
from tests.support import factories

WORKERS = tables.Worker.__table__


@pytest.fixture
def version(db):
    """An uploaded version that no worker has tested."""
    admin = factories.create_key(db, "boss", enums.Role.ADMIN)
    manifest = {"name": factories.MODEL, "version": "2", "digest": "2" * 64}
    db.write(models.add, manifest, {"model.json": "0" * 64}, admin)
    for worker in ("w1", "w2"):
        db.write(workers.register, worker, factories.MODEL_REF, "cpu")
    (untested,) = db.read(model_tests.list_untested, "w3")
    return untested


def row(db):
    """Return the row of the version."""
    return db.read(models.get_version, factories.MODEL, "2")


def lose(db, *names):
    """Let workers be lost."""
    lost = sa.update(WORKERS).where(WORKERS.c.id.in_(names)).values(heartbeat_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda conn: conn.execute(lost).rowcount)


def test_one_worker_at_a_time_tests_a_version(db, version):
    """The others look for another one meanwhile, and take it over if the first gives up."""
    factories.make_live(db)  # a bundled version needs no test
    assert version.qualified_name == f"{factories.MODEL}@2"
    assert db.write(model_tests.begin, "w1", version.id)
    assert not db.write(model_tests.begin, "w2", version.id)
    assert db.read(model_tests.list_untested, "w3") == []
    db.write(model_tests.end_loading, "w1", version.id)
    assert db.read(model_tests.list_untested, "w3") == [version]
    assert db.write(model_tests.begin, "w2", version.id)
    assert db.read(model_tests.list_untested, "w2") == [version]  # its own note may be of a test that has ended
    db.write(model_tests.end, "w2", version.id, None)
    assert db.read(model_tests.list_untested, "w3") == []
    assert not db.write(model_tests.begin, "w1", version.id)
    assert row(db).tested_at is not None
    assert row(db).test_error is None


def test_the_end_of_a_load_leaves_the_note_of_another_version(db, version):
    """A worker tests one version in one thread, and loads another one in another thread."""
    factories.make_live(db)
    other_id = db.read(models.get_version, factories.MODEL, factories.MODEL_REF.version).id
    db.write(model_tests.begin_loading, "w1", other_id)
    assert db.write(model_tests.begin, "w1", version.id)
    db.write(model_tests.end_loading, "w1", other_id)
    assert db.read(model_tests.list_untested, "w3") == []
    lose(db, "w1")
    assert db.write(model_tests.fail_versions_of_lost_workers) == [version.qualified_name]


def test_a_version_that_cost_a_worker_is_refused(db, version):
    """It was noted before it was loaded; the note of a live worker blames no version."""
    db.write(model_tests.begin, "w1", version.id)
    assert db.write(model_tests.fail_versions_of_lost_workers) == []
    lose(db, "w1")
    assert db.write(model_tests.fail_versions_of_lost_workers) == [f"{factories.MODEL}@2"]
    assert "w1 was lost" in row(db).test_error
    assert db.write(model_tests.fail_versions_of_lost_workers) == []
    assert db.read(model_tests.list_untested, "w3") == []


def test_a_forced_promotion_is_tested_again(db, version):
    """The failure is forgotten, so that workers test it before they serve it."""
    db.write(model_tests.end, "w1", version.id, "It is broken.")
    boss = row(db).created_by
    db.write(models.promote, factories.MODEL, "2", boss, retest=True)
    assert (row(db).tested_at, row(db).test_error, row(db).stage) == (None, None, "live")


def test_a_version_that_kills_workers_while_it_is_loaded_is_refused(db, version):
    """Although it has passed its test: after three workers, unless one serves it; a forced promotion forgets them."""
    db.write(model_tests.end, "w1", version.id, None)
    names = ["l1", "l2", "l3"]
    for name in names:
        db.write(workers.register, name, factories.MODEL_REF, "cpu")
    for name in names:
        assert db.write(model_tests.fail_versions_of_lost_workers) == []
        db.write(model_tests.begin_loading, name, version.id)
        lose(db, name)
    db.write(workers.update_models, "w1", {factories.MODEL: "2"}, {})
    assert db.write(model_tests.fail_versions_of_lost_workers) == []
    db.write(workers.update_models, "w1", {factories.MODEL: "1"}, {})
    assert db.write(model_tests.fail_versions_of_lost_workers) == [version.qualified_name]
    assert row(db).test_error == "3 workers were lost while they loaded this version."
    db.write(models.promote, factories.MODEL, "2", row(db).created_by, retest=True)
    assert db.write(model_tests.fail_versions_of_lost_workers) == []
    assert row(db).test_error is None


def test_workers_that_were_lost_before_a_forced_promotion_do_not_count(db, version):
    """Nor is their note taken for that of a test."""
    db.write(model_tests.end, "w1", version.id, None)
    db.write(model_tests.begin_loading, "w2", version.id)
    lose(db, "w2")
    db.write(models.promote, factories.MODEL, "2", row(db).created_by, retest=True)
    assert db.write(model_tests.fail_versions_of_lost_workers) == []
