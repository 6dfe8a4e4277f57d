"""The release before is brought back: its programs on the tables of this one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import tables
from tests.support import factories

ROOT = Path(__file__).parents[3]
ACCEPT = """
import sys
from core import settings
from core.db import database, revision
from core.db.queries import claims, jobs
from core.db.new_image import NewImage
config = settings.read()
db = database.Database(config.database_url)
db.read(revision.check)
image = NewImage("a", "0" * 64, 1)
job_id = str(db.write(jobs.insert_jobs, [(jobs.NewJob(sys.argv[1], "m"), [image])])[0].id)
options = {"limit": 10, "max_digests": 10, "next_attempts": 0, "lease_seconds": 30.0}
(claim,) = db.write(claims.claim, "me", "m", sys.argv[1], **options)
print(db.read(jobs.get, job_id, sys.argv[1]).status)
"""


@pytest.fixture
def previous_release(tmp_path):
    """A copy of the programs that knows neither the newest migration nor its columns."""
    folder = tmp_path / "previous"
    for name in ("core", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    versions = sorted((folder / "migrations" / "versions").glob("[0-9]*.py"))
    versions[-1].unlink()
    code = (folder / "core" / "db" / "tables.py").read_text()
    code = code.replace(f'REVISION = "{tables.REVISION}"', f'REVISION = "{versions[-2].name[:4]}"')
    code = re.sub(r"^    last_fed_at: .*\n.*\n", "", code, flags=re.MULTILINE)
    (folder / "core" / "db" / "tables.py").write_text(code)
    for path in (folder / "core").rglob("*.py"):  # as the program that never knew the column
        text = path.read_text().replace(', "last_fed_at": clock.now()', "")
        path.write_text(re.sub(r"^    last_fed_at: datetime .*\n", "", text, flags=re.MULTILINE))
    return folder


def run(folder, db, *arguments):
    """Run a Python program of a release on a database."""
    url = db.engine.url.render_as_string(hide_password=False)
    environ = {**os.environ, "SORTBELT_DATABASE_URL": url, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)


def test_the_release_before_works_with_the_tables_of_this_one(db, owner, previous_release):
    """Row 8: its migration leaves them as they are and says so; then it accepts and claims images."""
    factories.create_job(db, owner, "x")
    migrated = run(previous_release, db, "-m", "migrations")
    assert migrated.returncode == 0, migrated.stderr
    assert f"revision {tables.REVISION}, later than this program's" in migrated.stderr
    assert "Traceback" not in migrated.stderr
    accepted = run(previous_release, db, "-c", ACCEPT, owner)
    assert accepted.stdout.strip() == "running", accepted.stderr
    assert (
        db.read(lambda conn: conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())
        == tables.REVISION
    )


def test_tables_of_another_generation_are_refused_with_advice(db):
    """Row 8: by this release, as by any other; the tables stay as they are."""
    db.write(lambda conn: conn.execute(sa.text("UPDATE alembic_version SET version_num = '2001'")))
    refused = run(ROOT, db, "-m", "migrations")
    assert refused.returncode == 3
    assert "2001" in refused.stderr
    assert "restore a backup" in refused.stderr
    assert "SORTBELT_DATABASE_URL" not in refused.stderr
    assert "Traceback" not in refused.stderr
