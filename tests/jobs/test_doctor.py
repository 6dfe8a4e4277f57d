"""Every look of the doctor, at something that was really broken, and the sentence that says how to mend it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from jobs import blobs, doctor, purge, settings, surroundings
from jobs.store import workers
from tests import servers
from tests.jobs import making


@pytest.fixture
def wanted(database_url, redis_url, tmp_path):
    """Settings with which all is well."""
    return settings.Settings(database_url=database_url, redis_url=redis_url, blobs=str(tmp_path / "blobs"))


@pytest.fixture
def well(db, wanted, owner, tmp_path):
    """A database with a worker, and a job whose pictures have all ended."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    making.job(db, owner, "a", "b")
    making.finish(db, making.claim(db))
    return db


def found(wanted):
    """Every finding, by its check."""
    return {finding.check: finding for finding in doctor.examine(wanted)}


def bad(wanted):
    """What is wrong: check → the sentence that mends it."""
    return {check: finding.mend for check, finding in found(wanted).items() if not finding.ok}


def execute(db, statement):
    """Break something by SQL."""
    db.write(lambda c: c.execute(statement if isinstance(statement, sa.Executable) else sa.text(statement)))


def test_where_all_is_well_nothing_is_wrong(well, wanted):
    """Every look, on both databases."""
    findings = found(wanted)
    # The servers of the tests promise nothing to last, and a disk may be full in earnest.
    assert {name for name, finding in findings.items() if not finding.ok} <= {
        "durability",
        "disk",
        "database disk",
        "redis",
    }
    assert len(findings) >= 18
    assert all(finding.detail for finding in findings.values())


BREAKS = {
    "ended images without result": "DELETE FROM results",
    "results of open images": "UPDATE images SET status = 'queued'",
    "miscounted jobs": "UPDATE jobs SET done = done - 1",
    "complete but open jobs": "UPDATE jobs SET finished_at = NULL",
    "ended jobs of which nobody is told": "UPDATE jobs SET webhook = 'https://hooks.example/'",
    "images attempted too often": "UPDATE images SET attempt = 17",
    "forgotten leases": "UPDATE images SET status = 'running', lease_until = '2020-01-01 00:00:00'",
}


def test_webhooks_that_nobody_sends(well, wanted, owner):
    """A courier is missing; what is only just due is no reason to say so."""
    making.job(well, owner, "c", webhook="https://hooks.example/")
    making.finish(well, making.claim(well))
    assert "webhooks" not in bad(wanted)
    execute(well, "UPDATE deliveries SET next_at = '2020-01-01 00:00:00'")
    assert "python -m jobs.courier" in bad(wanted)["webhooks"]


@pytest.mark.parametrize("check", BREAKS)
def test_an_invariant_that_does_not_hold(well, wanted, check):
    """Broken by hand, seen, and told what to do."""
    execute(well, BREAKS[check])
    assert bad(wanted)[check]


def test_tables_that_were_not_migrated(well, wanted):
    """It says with what to migrate them."""
    execute(well, "UPDATE alembic_version SET version_num = '0000'")
    finding = found(wanted)["database"]
    assert not finding.ok
    assert "sortbelt db upgrade" in finding.detail


def test_a_database_that_is_away(wanted, tmp_path):
    """One finding, which names the setting."""
    away = wanted.model_copy(update={"database_url": f"postgresql+psycopg://x@127.0.0.1:{servers.free_port()}/x"})
    assert "SORTBELT_DATABASE_URL" in bad(away)["database"]


def test_jobs_that_should_have_been_purged(well, wanted):
    """Only where they are not kept for ever, and have been too old for a day."""
    execute(well, "UPDATE jobs SET finished_at = '2020-01-01 00:00:00'")
    assert "for ever" in found(wanted)["retention"].detail
    short = wanted.model_copy(update={"retention_days": 30.0})
    assert "SORTBELT_RETENTION_DAYS" in bad(short)["retention"]
    purge.run(well, blobs.Folder(Path(wanted.blobs)), days=30)
    assert found(short)["retention"].ok


def test_no_worker(db, wanted):
    """It says how to start one."""
    assert "python -m worker" in bad(wanted)["workers"]


def test_workers_that_get_nothing_done(well, wanted):
    """They live, they answer, and pictures wait for long: that is not well."""
    long_ago = workers.clock.now(-3600)
    execute(well, sa.update(workers.WORKERS).values(started_at=long_ago, progress_at=long_ago))
    assert "logs" in bad(wanted)["workers"]


def test_pictures_whose_bytes_are_gone(well, wanted, owner):
    """Queued, and nothing lies where it should."""
    making.job(well, owner, "x", "y")
    assert "2 of 2" in found(wanted)["pictures"].detail
    assert "SORTBELT_BLOBS" in bad(wanted)["pictures"]


def test_a_postgres_that_may_forget(postgres, wanted):
    """The server of the tests does: its commits are not waited for."""
    there = wanted.model_copy(update={"database_url": postgres.engine.url.render_as_string(hide_password=False)})
    assert "fsync" in bad(there)["durability"]
    assert "synchronous_commit" in bad(there)["durability"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_sqlite_that_does_not_write_ahead(db, wanted, monkeypatch):
    """As on a network's folder."""
    from jobs import database

    monkeypatch.setattr(database, "_prepare_sqlite", lambda connection, _: setattr(connection, "isolation_level", None))
    execute(db, "SELECT 1")
    db.close()
    with sa.create_engine(wanted.database_url, poolclass=sa.NullPool).connect() as c:
        c.exec_driver_sql("PRAGMA journal_mode = DELETE")
    assert "local disk" in bad(wanted)["durability"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_clock_that_is_wrong(well, wanted, monkeypatch):
    """Ours, this time: a minute beside that of the database and that of Redis."""

    class Late(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=60)

    monkeypatch.setattr(doctor, "datetime", Late)
    real = surroundings.time.time
    monkeypatch.setattr(surroundings.time, "time", lambda: real() - 60)
    wrong = bad(wanted)
    assert "NTP" in wrong["clock"]
    assert "NTP" in wrong["redis clock"]
    assert datetime.now(UTC) < Late.now(UTC)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("decode_seconds", 90, "SORTBELT_DECODE_SECONDS"),
        ("drain_seconds", 90, "SORTBELT_DRAIN_SECONDS"),
        ("max_image_bytes", 100_000_000, "SORTBELT_MAX_IMAGE_BYTES"),
        ("api_threads", 64, "SORTBELT_API_THREADS"),
        ("lease_seconds", 0.5, "SORTBELT_LEASE_SECONDS"),
        ("decode_memory_bytes", 10**15, "SORTBELT_DECODE_MEMORY_BYTES"),
    ],
)
def test_settings_that_do_not_fit_together(wanted, name, value, told):
    """Each is fine by itself."""
    assert told in bad(wanted.model_copy(update={name: value}))["settings"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "version"), [("celery", "5.7.0"), ("pillow", "9.5.0")])
def test_libraries_that_are_others(well, wanted, monkeypatch, name, version):
    """A Celery that ends on a restart of Redis; a Pillow with holes."""
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: version if asked == name else real(asked))
    finding = found(wanted)["libraries"]
    assert not finding.ok
    assert f"{name} is {version}" in finding.detail
    assert "make setup" in finding.mend


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_redis_that_forgets_is_full_or_a_replica(well, wanted):
    """Each for real, on a Redis of this test's own."""
    with servers.redis() as (url, _), redis.Redis.from_url(url) as client:
        there = wanted.model_copy(update={"redis_url": url})
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in bad(there)["redis policy"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1_000_000)
        assert "more memory" in bad(there)["redis memory"]
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", servers.free_port())
        assert "master" in bad(there)["redis role"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_redis_that_is_away(well, wanted):
    """It is said that work goes on."""
    away = wanted.model_copy(update={"redis_url": f"redis://127.0.0.1:{servers.free_port()}/0"})
    assert "Work goes on" in bad(away)["redis"]


@pytest.mark.parametrize(
    ("version", "private", "ok"),
    [
        ("7.2.10", False, False),
        ("7.2.11", False, True),
        ("7.2.10", True, True),
        ("9.0", False, True),
        ("5.0.1", True, False),
    ],
)
def test_versions_of_redis(version, private, ok):
    """Those with a known hole are told, but for one that nobody else can reach."""
    assert surroundings._redis_version(version, private=private).ok is ok


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_store_that_cannot_be_written(well, wanted, tmp_path):
    """A file where the folder should be."""
    (tmp_path / "file").write_text("in the way")
    assert "SORTBELT_BLOBS" in bad(wanted.model_copy(update={"blobs": str(tmp_path / "file")}))["blobs"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_disk_that_is_nearly_full(well, wanted, monkeypatch):
    """Of pictures and of the database; as if so much were needed as no disk has."""
    monkeypatch.setattr(surroundings, "LEAST_FREE_BYTES", 10**18)
    monkeypatch.setattr(surroundings, "LEAST_FREE_FILES", 10**15)
    wrong = bad(wanted)
    assert "Make room" in wrong["disk"]
    assert "Make room" in wrong["database disk"]
    assert "files" in wrong["disk files"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_command_prints_each_finding_and_its_code_says_whether_all_is_well(well, wanted):
    """For people a line, and below what is wrong how to mend it; as JSON for machines."""
    chosen = {"DATABASE_URL": wanted.database_url, "REDIS_URL": wanted.redis_url, "BLOBS": wanted.blobs}
    environ = {**os.environ, **{f"SORTBELT_{name}": value for name, value in chosen.items()}}
    execute(well, "DELETE FROM results")
    command = [sys.executable, "-m", "jobs.doctor"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("BAD  ended images without result: 2"))
    assert lines[place + 1].strip() == "This is a defect; report it."
    as_json = subprocess.run([*command, "--json"], env=environ, capture_output=True, text=True, check=False)
    checks = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert {check["check"]: check["ok"] for check in checks}["ended images without result"] is False
    assert all(set(check) == {"check", "ok", "detail", "mend"} for check in checks)
