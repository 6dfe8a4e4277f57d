import threading

import pytest
import sqlalchemy as sa

from core import errors
from core.db import database
from core.db.queries import models
from tests.support import factories

FILES = {"weights.safetensors": "1" * 64, "model.json": "2" * 64, "CARD.md": "3" * 64}


@pytest.fixture
def add_version(db, admin_key_id):
    """Adds versions of a model."""

    def add(*versions, name=factories.MODEL):
        return [db.write(models.add, manifest(version, name), files(version), admin_key_id)[0] for version in versions]

    return add


def manifest(version, name=factories.MODEL, **more):
    """What a `model.json` says, as far as the registry cares."""
    digest = (version * 64)[:64]
    return {"name": name, "version": version, "digest": digest, "labels": ["a", "b"], "metrics": {"f1": 0.5}} | more


def files(version):
    """The files of a version."""
    return FILES | {"weights.safetensors": (version * 64)[:64]}


def stages(db):
    """The stage of each version."""
    return {row.version: row.stage for row in db.read(models.list_all)}


def live(db, name=factories.MODEL):
    """The versions that workers are to serve: the live one, then what they may fall back on."""
    return [version.version for version in db.read(models.desired_versions).live.get(name, [])]


def test_a_version_that_was_added_is_a_candidate(db, add_version):
    """It is in the list with who added it, and answers nothing."""
    (row,) = add_version("1")
    assert (row.name, row.version, row.digest, row.stage) == (factories.MODEL, "1", "1" * 64, "candidate")
    assert (row.creator, row.share, row.promoted_at) == ("boss", None, None)
    assert row.created_at is not None
    assert row.manifest["metrics"] == {"f1": 0.5}
    assert live(db) == []
    assert db.read(models.live_names) == []


def test_adding_the_same_again_changes_nothing(db, add_version, admin_key_id):
    """And says so."""
    add_version("1")
    row, new = db.write(models.add, manifest("1"), files("1"), admin_key_id)
    assert not new
    assert [row.id] == [each.id for each in db.read(models.list_all)]


@pytest.mark.parametrize("field", ["digest", "labels", "files"])
def test_a_version_never_changes(db, add_version, admin_key_id, field):
    """Other weights, another manifest or another card under a version that is taken are refused."""
    add_version("1")
    other = {"digest": "f" * 64, "labels": ["a", "c"]}
    about = manifest("1", **{name: value for name, value in other.items() if name == field})
    held = files("1") | ({"CARD.md": "f" * 64} if field == "files" else {})
    with pytest.raises(errors.VersionConflict, match="@1 exists with other content"):
        db.write(models.add, about, held, admin_key_id)
    assert [row.digest for row in db.read(models.list_all)] == ["1" * 64]


def test_promotion_retires_the_version_before(db, add_version, admin_key_id):
    """One live version of a name, and models of other names are left alone."""
    add_version("1", "2")
    add_version("1", name="other")
    db.write(models.promote, "other", "1", admin_key_id)
    db.write(models.promote, factories.MODEL, "1", admin_key_id)
    row = db.write(models.promote, factories.MODEL, "2", admin_key_id)
    assert (row.version, row.stage) == ("2", "live")
    assert row.promoted_at is not None
    assert db.read(models.get_version, factories.MODEL, "1").stage == "retired"
    assert db.read(models.live_names) == ["other", factories.MODEL]
    assert live(db) == ["2", "1"]
    assert live(db, "other") == ["1"]


def test_rollback_goes_back_step_by_step(db, add_version, admin_key_id):
    """Each takes one promotion back; before the first there is nothing."""
    add_version("1", "2", "3")
    for version in "123":
        db.write(models.promote, factories.MODEL, version, admin_key_id)
    assert [db.write(models.rollback, factories.MODEL, admin_key_id).version for _ in range(2)] == ["2", "1"]
    with pytest.raises(errors.NoPreviousVersion, match="No version of sushi-or-sandwich was live before"):
        db.write(models.rollback, factories.MODEL, admin_key_id)
    assert stages(db) == {"1": "live", "2": "retired", "3": "retired"}


def test_rollback_after_another_promotion_goes_to_what_was_live_then(db, add_version, admin_key_id):
    """1, 2, back to 1, then 3: back is 1, not the 2 that was taken back."""
    add_version("1", "2", "3")
    db.write(models.promote, factories.MODEL, "1", admin_key_id)
    db.write(models.promote, factories.MODEL, "2", admin_key_id)
    db.write(models.rollback, factories.MODEL, admin_key_id)
    db.write(models.promote, factories.MODEL, "3", admin_key_id)
    assert db.write(models.rollback, factories.MODEL, admin_key_id).version == "1"


def test_promoting_what_is_live_is_no_step(db, add_version, admin_key_id):
    """Said twice, taken back once."""
    add_version("1", "2")
    for version in "122":
        db.write(models.promote, factories.MODEL, version, admin_key_id)
    assert db.write(models.rollback, factories.MODEL, admin_key_id).version == "1"


def test_what_is_not_there_is_not_promoted_nor_taken_back(db, add_version, admin_key_id):
    """The sentence names it; a model that never had a live version has nothing before."""
    add_version("1")
    for action in (models.promote, lambda c, *a: models.set_shadow_share(c, *a[:2], 0.5)):
        with pytest.raises(errors.ModelNotFound, match="There is no sushi-or-sandwich@7"):
            db.write(action, factories.MODEL, "7", admin_key_id)
    with pytest.raises(errors.ModelNotFound, match="'unknown'"):
        db.write(models.rollback, "unknown", admin_key_id)
    with pytest.raises(errors.NoPreviousVersion):
        db.write(models.rollback, factories.MODEL, admin_key_id)


def test_a_shadow_has_a_share_until_it_ends(db, add_version, admin_key_id):
    """It goes back to what it was; the live version cannot be one."""
    add_version("1", "2", "3")
    db.write(models.promote, factories.MODEL, "1", admin_key_id)
    db.write(models.promote, factories.MODEL, "2", admin_key_id)
    for version in "13":
        row = db.write(models.set_shadow_share, factories.MODEL, version, 0.25)
        assert (row.stage, row.share) == ("shadow", 0.25)
    assert {v.version: v.share for v in db.read(models.desired_versions).shadows[factories.MODEL]} == {
        "1": 0.25,
        "3": 0.25,
    }
    for version in "13":
        db.write(models.set_shadow_share, factories.MODEL, version, 0)
    assert stages(db) == {"1": "retired", "2": "live", "3": "candidate"}
    assert db.read(models.desired_versions).shadows == {}
    with pytest.raises(errors.VersionIsLive, match="@2"):
        db.write(models.set_shadow_share, factories.MODEL, "2", 0.1)


def test_a_shadow_that_is_promoted_is_none_any_more(db, add_version, admin_key_id):
    """It answers now."""
    add_version("1", "2")
    db.write(models.promote, factories.MODEL, "1", admin_key_id)
    db.write(models.set_shadow_share, factories.MODEL, "2", 1.0)
    row = db.write(models.promote, factories.MODEL, "2", admin_key_id)
    assert (row.stage, row.share) == ("live", None)
    assert db.read(models.desired_versions).shadows == {}


def test_what_workers_come_with_is_live_until_a_person_promotes(db, add_version, admin_key_id):
    """The first start makes it so, later starts change nothing, a later release brings its own."""
    for version in ("1", "1", "2"):
        assert db.write(models.register_bundled, manifest(version))
    assert stages(db) == {"1": "retired", "2": "live"}
    assert live(db) == ["2", "1"]
    add_version("3")
    db.write(models.promote, factories.MODEL, "3", admin_key_id)
    assert db.write(models.register_bundled, manifest("4"))
    assert stages(db)["3"] == "live"
    assert db.write(models.rollback, factories.MODEL, admin_key_id).version == "2"


def test_what_workers_come_with_may_change_under_its_version(db):
    """It was not uploaded, so the workers define it."""
    db.write(models.register_bundled, manifest("1"))
    assert db.write(models.register_bundled, manifest("1", digest="e" * 64))
    assert [row.digest for row in db.read(models.list_all)] == ["e" * 64]
    assert live(db) == ["1"]


def test_an_upload_of_a_bundled_version_makes_it_available_to_all(db, admin_key_id):
    """The same content gets its files; another is refused; and then it does not change any more."""
    db.write(models.register_bundled, manifest("1"))
    assert db.read(models.desired_versions).live[factories.MODEL][0].files is None
    row, new = db.write(models.add, manifest("1"), files("1"), admin_key_id)
    assert not new
    assert row.files == files("1")
    assert db.write(models.register_bundled, manifest("1"))
    assert not db.write(models.register_bundled, manifest("1", digest="e" * 64))
    assert db.read(models.get_version, factories.MODEL, "1").digest == "1" * 64


def test_ten_promotions_at_once_leave_one_live(db, database_url, add_version, admin_key_id):
    """Each is a whole step: as many can be taken back as were made, less the first."""
    versions = [str(number) for number in range(10)]
    add_version(*versions)

    def promote(version):
        other = database.Database(database_url)
        other.write(models.promote, factories.MODEL, version, admin_key_id)
        other.close()

    threads = [threading.Thread(target=promote, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stages(db).values()) == ["live", *["retired"] * 9]
    assert len({db.write(models.rollback, factories.MODEL, admin_key_id).version for _ in range(9)}) == 9


def test_two_workers_that_arrive_at_once_promote_once(db, database_url):
    """The first start of a server with several workers."""

    def settle():
        other = database.Database(database_url)
        other.write(models.register_bundled, manifest("1"))
        other.close()

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages(db) == {"1": "live"}
    assert db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(models.PROMOTIONS)).scalar()) == 1
