import contextlib

import pytest
from alembic import autogenerate, command
from alembic.migration import MigrationContext

from core import errors
from core.db import tables
from core.db.queries import known_blobs
from migrations.__main__ import upgrade
from tests.support import factories
from tests.support.migrating import migrate


def test_migrations_make_exactly_the_tables(db):
    """A database made by the migrations has no difference to the tables of the code."""
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert autogenerate.compare_metadata(context, tables.Base.metadata) == []


def test_migrating_again_changes_nothing(db):
    """A second migration, as by a second server, changes nothing."""
    db.write(upgrade)
    db.write(upgrade)


def test_tables_older_than_those_of_0_1_are_refused(db):
    """Their migrations are not there any more; the message names the release that has them."""
    db.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0010'"))
    with pytest.raises(errors.DatabaseUnavailable, match=r"release 0\.2\.0"):
        db.write(upgrade)


def test_a_view_over_ours_survives(db):
    """A newer revision adds columns to a view on which a view of the users depends."""
    migrate(db, command.downgrade, "1013")
    db.write(lambda c: c.exec_driver_sql("CREATE VIEW own AS SELECT image, label FROM v_results"))
    migrate(db, command.upgrade, "head")
    assert db.read(lambda c: c.exec_driver_sql("SELECT * FROM own").all()) == []


def test_keys_of_one_name_get_numbers(db):
    """Valid keys of one name get different numbers; a revoked one keeps its name."""
    migrate(db, command.downgrade, "1014")
    insert = "INSERT INTO api_keys (id, name, role, prefix, digest, created_at, revoked_at) VALUES "
    for number, (name, revoked) in enumerate([("a", 0), ("a", 0), ("a (2)", 0), ("a", 1), ("a", 0)]):
        id_, revoked_at = f"00000000-0000-7000-8000-00000000000{number}", "'2026-01-01'" if revoked else "NULL"
        row = f"('{id_}', '{name}', 'read', 'p{number}', 'd', '2026-01-01', {revoked_at})"
        db.write(lambda c, row=row: c.exec_driver_sql(insert + row))
    migrate(db, command.upgrade, "head")
    names = db.read(lambda c: c.exec_driver_sql("SELECT name FROM api_keys ORDER BY id").scalars().all())
    assert names == ["a", "a (3)", "a (2)", "a", "a (4)"]


def test_ids_of_images_are_not_given_again_after_the_upgrade(db, owner):
    """Neither those of images that are there, nor those of receipts; a receipt whose id was given again goes."""
    migrate(db, command.downgrade, "1023")
    job_id = factories.create_job(db, owner, "a", "b")
    factories.complete_claims(db, factories.claim_images(db))
    insert = "INSERT INTO image_deletions (image_id, job_id, bytes, deleted_at, deleted_by) VALUES "
    rows = ", ".join(f"({id_}, '{job_id}', 1, '2026-01-01 00:00:00', '{owner}')" for id_ in (2, 70))
    db.write(lambda c: c.exec_driver_sql(insert + rows))
    with contextlib.suppress(RuntimeError):  # on SQLite, a connection with foreign keys would lose the results
        db.write(upgrade)
    assert factories.result_names(db) == ["a", "b"]
    migrate(db, command.upgrade, "head")
    assert factories.result_names(db) == ["a", "b"]
    receipts = db.read(lambda c: c.exec_driver_sql("SELECT image_id FROM image_deletions ORDER BY 1").scalars().all())
    factories.create_job(db, owner, "c")
    newest = db.read(lambda c: c.exec_driver_sql("SELECT max(id) FROM images").scalar())
    assert (receipts, newest) == (([70], 71) if db.dialect_name == "sqlite" else ([2, 70], 3))
    indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'images' AND name LIKE 'ix%'"
    if db.dialect_name == "sqlite":
        assert len(db.read(lambda c: c.exec_driver_sql(indexes).all())) == 6


def test_migrating_keeps_what_is_there(db, owner):
    """Back to the tables of 0.1 and forward again, and every job still has its images and their results."""
    factories.create_job(db, owner, "a", "b")
    factories.complete_claims(db, factories.claim_images(db))
    migrate(db, command.downgrade, "0011")
    migrate(db, command.upgrade, "head")
    assert factories.image_states(db) == {"a": ("done", 1), "b": ("done", 1)}
    assert factories.result_names(db) == ["a", "b"]
    digest = factories.new_image("a").sha256
    assert db.read(known_blobs.find_known, owner, [digest]).keys() == {digest}
