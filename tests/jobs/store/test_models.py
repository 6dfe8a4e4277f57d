import threading

import pytest
import sqlalchemy as sa

from jobs import database, errors, tables
from jobs.store import keys, models
from tests.jobs import making

FILES = {"weights.safetensors": "1" * 64, "model.json": "2" * 64, "CARD.md": "3" * 64}


@pytest.fixture
def who(db):
    """An admin; the id of their key."""
    return db.write(keys.create, "boss", tables.Role.ADMIN, keys.make()).id


@pytest.fixture
def add(db, who):
    """Adds versions of a model."""

    def add(*versions, name=making.MODEL):
        return [db.write(models.add, manifest(version, name), files(version), who)[0] for version in versions]

    return add


def manifest(version, name=making.MODEL, **more):
    """What a `model.json` says, as far as the registry cares."""
    digest = (version * 64)[:64]
    return {"name": name, "version": version, "digest": digest, "labels": ["a", "b"], "metrics": {"f1": 0.5}} | more


def files(version):
    """The files of a version."""
    return FILES | {"weights.safetensors": (version * 64)[:64]}


def stages(db):
    """The stage of each version."""
    return {row.version: row.stage for row in db.read(models.page)}


def live(db, name=making.MODEL):
    """The versions that workers are to serve: the live one, then what they may fall back on."""
    return [version.version for version in db.read(models.wanted).live.get(name, [])]


def test_a_version_that_was_added_is_a_candidate(db, add):
    """It is in the list with who added it, and answers nothing."""
    (row,) = add("1")
    assert (row.name, row.version, row.digest, row.stage) == (making.MODEL, "1", "1" * 64, "candidate")
    assert (row.creator, row.share, row.promoted_at) == ("boss", None, None)
    assert row.created_at is not None
    assert row.manifest["metrics"] == {"f1": 0.5}
    assert live(db) == []
    assert db.read(models.live_names) == []


def test_adding_the_same_again_changes_nothing(db, add, who):
    """And says so."""
    add("1")
    row, new = db.write(models.add, manifest("1"), files("1"), who)
    assert not new
    assert [row.id] == [each.id for each in db.read(models.page)]


@pytest.mark.parametrize("field", ["digest", "labels", "files"])
def test_a_version_never_changes(db, add, who, field):
    """Other weights, another manifest or another card under a version that is taken are refused."""
    add("1")
    other = {"digest": "f" * 64, "labels": ["a", "c"]}
    about = manifest("1", **{name: value for name, value in other.items() if name == field})
    held = files("1") | ({"CARD.md": "f" * 64} if field == "files" else {})
    with pytest.raises(errors.VersionTaken, match="@1 is there already"):
        db.write(models.add, about, held, who)
    assert [row.digest for row in db.read(models.page)] == ["1" * 64]


def test_promotion_retires_the_version_before(db, add, who):
    """One live version of a name, and models of other names are left alone."""
    add("1", "2")
    add("1", name="other")
    db.write(models.promote, "other", "1", who)
    db.write(models.promote, making.MODEL, "1", who)
    row = db.write(models.promote, making.MODEL, "2", who)
    assert (row.version, row.stage) == ("2", "live")
    assert row.promoted_at is not None
    assert db.read(models.version, making.MODEL, "1").stage == "retired"
    assert db.read(models.live_names) == ["other", making.MODEL]
    assert live(db) == ["2", "1"]
    assert live(db, "other") == ["1"]


def test_rollback_goes_back_step_by_step(db, add, who):
    """Each takes one promotion back; before the first there is nothing."""
    add("1", "2", "3")
    for version in "123":
        db.write(models.promote, making.MODEL, version, who)
    assert [db.write(models.rollback, making.MODEL, who).version for _ in range(2)] == ["2", "1"]
    with pytest.raises(errors.NothingBefore, match="No version of sushi-or-sandwich was live before"):
        db.write(models.rollback, making.MODEL, who)
    assert stages(db) == {"1": "live", "2": "retired", "3": "retired"}


def test_rollback_after_another_promotion_goes_to_what_was_live_then(db, add, who):
    """1, 2, back to 1, then 3: back is 1, not the 2 that was taken back."""
    add("1", "2", "3")
    db.write(models.promote, making.MODEL, "1", who)
    db.write(models.promote, making.MODEL, "2", who)
    db.write(models.rollback, making.MODEL, who)
    db.write(models.promote, making.MODEL, "3", who)
    assert db.write(models.rollback, making.MODEL, who).version == "1"


def test_promoting_what_is_live_is_no_step(db, add, who):
    """Said twice, taken back once."""
    add("1", "2")
    for version in "122":
        db.write(models.promote, making.MODEL, version, who)
    assert db.write(models.rollback, making.MODEL, who).version == "1"


def test_what_is_not_there_is_not_promoted_nor_taken_back(db, add, who):
    """The sentence names it; a model that never had a live version has nothing before."""
    add("1")
    for action in (models.promote, lambda c, *a: models.shadow(c, *a[:2], 0.5)):
        with pytest.raises(errors.ModelNotFound, match="There is no sushi-or-sandwich@7"):
            db.write(action, making.MODEL, "7", who)
    with pytest.raises(errors.ModelNotFound, match="'nobody'"):
        db.write(models.rollback, "nobody", who)
    with pytest.raises(errors.NothingBefore):
        db.write(models.rollback, making.MODEL, who)


def test_a_shadow_has_a_share_until_it_ends(db, add, who):
    """It goes back to what it was; the live version cannot be one."""
    add("1", "2", "3")
    db.write(models.promote, making.MODEL, "1", who)
    db.write(models.promote, making.MODEL, "2", who)
    for version in "13":
        row = db.write(models.shadow, making.MODEL, version, 0.25)
        assert (row.stage, row.share) == ("shadow", 0.25)
    assert {v.version: v.share for v in db.read(models.wanted).shadows[making.MODEL]} == {"1": 0.25, "3": 0.25}
    for version in "13":
        db.write(models.shadow, making.MODEL, version, 0)
    assert stages(db) == {"1": "retired", "2": "live", "3": "candidate"}
    assert db.read(models.wanted).shadows == {}
    with pytest.raises(errors.IsLive, match="@2"):
        db.write(models.shadow, making.MODEL, "2", 0.1)


def test_a_shadow_that_is_promoted_is_none_any_more(db, add, who):
    """It answers now."""
    add("1", "2")
    db.write(models.promote, making.MODEL, "1", who)
    db.write(models.shadow, making.MODEL, "2", 1.0)
    row = db.write(models.promote, making.MODEL, "2", who)
    assert (row.stage, row.share) == ("live", None)
    assert db.read(models.wanted).shadows == {}


def test_what_workers_come_with_is_live_until_a_person_promotes(db, add, who):
    """The first start makes it so, later starts change nothing, a later release brings its own."""
    for version in ("1", "1", "2"):
        assert db.write(models.settle, manifest(version))
    assert stages(db) == {"1": "retired", "2": "live"}
    assert live(db) == ["2", "1"]
    add("3")
    db.write(models.promote, making.MODEL, "3", who)
    assert db.write(models.settle, manifest("4"))
    assert stages(db)["3"] == "live"
    assert db.write(models.rollback, making.MODEL, who).version == "2"


def test_what_workers_come_with_may_change_under_its_version(db):
    """Nobody uploaded it, so it is what the workers say."""
    db.write(models.settle, manifest("1"))
    assert db.write(models.settle, manifest("1", digest="e" * 64))
    assert [row.digest for row in db.read(models.page)] == ["e" * 64]
    assert live(db) == ["1"]


def test_an_upload_of_what_workers_come_with_makes_it_everybody_s(db, who):
    """The same content gets its files; another is refused; and then it does not change any more."""
    db.write(models.settle, manifest("1"))
    assert db.read(models.wanted).live[making.MODEL][0].files is None
    row, new = db.write(models.add, manifest("1"), files("1"), who)
    assert not new
    assert row.files == files("1")
    assert db.write(models.settle, manifest("1"))
    assert not db.write(models.settle, manifest("1", digest="e" * 64))
    assert db.read(models.version, making.MODEL, "1").digest == "1" * 64


def test_ten_promotions_at_once_leave_one_live(db, database_url, add, who):
    """Each is a whole step: as many can be taken back as were made, less the first."""
    versions = [str(number) for number in range(10)]
    add(*versions)

    def promote(version):
        other = database.Database(database_url)
        other.write(models.promote, making.MODEL, version, who)
        other.close()

    threads = [threading.Thread(target=promote, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stages(db).values()) == ["live", *["retired"] * 9]
    assert len({db.write(models.rollback, making.MODEL, who).version for _ in range(9)}) == 9


def test_two_workers_that_arrive_at_once_promote_once(db, database_url):
    """The first start of a server with several workers."""

    def settle():
        other = database.Database(database_url)
        other.write(models.settle, manifest("1"))
        other.close()

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages(db) == {"1": "live"}
    assert db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(models.PROMOTIONS)).scalar()) == 1
