"""SQLite's files deleted, replaced, moved or damaged under a running process."""

import shutil

import pytest
import sqlalchemy as sa

from core import errors
from core.db import database, revision

PAGE_BYTES = 4096


@pytest.fixture
def folder(tmp_path, _sqlite_template):
    """A folder with a migrated database."""
    (tmp_path / "data").mkdir()
    shutil.copy(_sqlite_template, tmp_path / "data" / "a.db")
    return tmp_path / "data"


@pytest.fixture
def db(folder):
    """The database, in use."""
    one = database.Database(f"sqlite:///{folder}/a.db")
    one.write(revision.check_writable)
    yield one
    one.close()


def delete_database(folder):
    """Delete the file of the database."""
    (folder / "a.db").unlink()


def delete_wal(folder):
    """Delete its write-ahead log, which has the latest commits."""
    (folder / "a.db-wal").unlink()


def replace_database(folder):
    """Put a copy in its place, as a restore from a backup does."""
    shutil.copy(folder / "a.db", folder / "b.db")
    (folder / "b.db").replace(folder / "a.db")


def move_folder(folder):
    """Move its folder away."""
    folder.rename(folder.with_name("moved"))


@pytest.mark.parametrize("fault", [delete_database, delete_wal, replace_database, move_folder])
def test_files_that_were_deleted_or_replaced_are_noticed_at_the_next_write(folder, db, fault):
    """Row 10: nothing is accepted from then on, by old and by new connections; no file is created in their place."""
    fault(folder)
    held = db.engine.connect()  # so that the pool opens another connection
    with pytest.raises(errors.DatabaseUnavailable, match="deleted or replaced"):
        db.write(revision.check_writable)
    if fault is not delete_wal:
        assert (folder / "a.db").exists() is (fault is replace_database)
        for query in (db.read, db.write):
            with pytest.raises(errors.DatabaseUnavailable, match="deleted or replaced"):
                query(revision.check_writable)
    held.close()


def test_files_deleted_during_a_transaction_are_noticed_before_it_counts(folder, db):
    """The commit succeeds, in a file that is lost with the process."""

    def write(conn):
        revision.check_writable(conn)
        delete_database(folder)

    with pytest.raises(errors.DatabaseUnavailable, match="deleted or replaced"):
        db.write(write)


def test_ordinary_work_goes_on(folder, db):
    """Checkpoints, VACUUM, other processes that come and go, and new connections do not count as changes."""
    for _ in range(3):
        other = database.Database(f"sqlite:///{folder}/a.db")
        other.write(revision.check_writable)
        other.close()
        db.write(revision.check_writable)
        with db.engine.connect() as connection:
            connection.connection.dbapi_connection.execute("VACUUM")
            connection.connection.dbapi_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.write(revision.check_writable)
        db.close()
        db.write(revision.check_writable)


def test_damaged_pages_are_found(folder, db):
    """Row 9: those on disk, whatever is in memory; and damage that a query runs into is remembered."""
    db.check_pages()
    root_page = db.read(
        lambda conn: conn.execute(sa.text("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'")).scalar()
    )
    db.close()
    content = bytearray((folder / "a.db").read_bytes())
    damaged = slice(PAGE_BYTES * (root_page - 1), PAGE_BYTES * root_page)
    content[damaged] = b"\xa5" * PAGE_BYTES
    (folder / "a.db").write_bytes(content)
    with pytest.raises(errors.DatabaseUnavailable, match="damaged"):
        db.check_pages()
    with pytest.raises(errors.DatabaseUnavailable):
        db.read(lambda conn: conn.execute(sa.text("SELECT * FROM jobs")).all())
    assert db.damage is not None
