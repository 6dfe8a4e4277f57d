"""Every look of the doctor, at something that was really broken, and the sentence that says how to mend it."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from core import settings
from core.db.queries import workers
from core.maintenance import doctor, preflight, retention
from core.storage import local
from tests.support import factories, modules, servers


@pytest.fixture
def healthy_settings(database_url, redis_url, tmp_path):
    """Settings with which all is well."""
    return settings.Settings(database_url=database_url, redis_url=redis_url, blob_store=str(tmp_path / "blobs"))


@pytest.fixture
def healthy_db(db, healthy_settings, owner, tmp_path):
    """A database with a worker, and a finished job."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    factories.create_job(db, owner, "a", "b")
    factories.complete_claims(db, factories.claim_images(db))
    return db


def found(wanted):
    """Every finding, by its check."""
    return {finding.check: finding for finding in doctor.run_checks(wanted)}


def bad(wanted):
    """Return the failed checks with their hints."""
    return {check: finding.hint for check, finding in found(wanted).items() if not finding.ok}


def execute(db, statement):
    """Break something by SQL."""
    db.write(lambda c: c.execute(statement if isinstance(statement, sa.Executable) else sa.text(statement)))


def test_where_all_is_well_nothing_is_wrong(healthy_db, healthy_settings):
    """Every look, on both databases."""
    findings = found(healthy_settings)
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
    "finished images without result": "DELETE FROM results",
    "results of unfinished images": "UPDATE images SET status = 'queued'",
    "miscounted jobs": "UPDATE jobs SET done = done - 1",
    "complete but unfinished jobs": "UPDATE jobs SET finished_at = NULL",
    "finished jobs without webhook delivery": "UPDATE jobs SET webhook_url = 'https://hooks.example/'",
    "images over the attempt limit": "UPDATE images SET attempt = 17",
    "stale leases": "UPDATE images SET status = 'running', lease_until = '2020-01-01 00:00:00'",
}


def test_overdue_webhooks(healthy_db, healthy_settings, owner):
    """Without a dispatcher; a delivery that is only just due is not reported."""
    factories.create_job(healthy_db, owner, "c", webhook_url="https://hooks.example/")
    factories.complete_claims(healthy_db, factories.claim_images(healthy_db))
    assert "webhooks" not in bad(healthy_settings)
    execute(healthy_db, "UPDATE webhook_deliveries SET next_attempt_at = '2020-01-01 00:00:00'")
    assert "python -m dispatcher" in bad(healthy_settings)["webhooks"]


@pytest.mark.parametrize("check", BREAKS)
def test_an_invariant_that_does_not_hold(healthy_db, healthy_settings, check):
    """Broken by hand, detected, with a hint."""
    execute(healthy_db, BREAKS[check])
    assert bad(healthy_settings)[check]


def test_tables_that_were_not_migrated(healthy_db, healthy_settings):
    """It says with what to migrate them."""
    execute(healthy_db, "UPDATE alembic_version SET version_num = '0000'")
    finding = found(healthy_settings)["database"]
    assert not finding.ok
    assert "sortbelt db upgrade" in finding.detail


def test_a_database_that_is_away(healthy_settings, tmp_path):
    """One finding, which names the setting."""
    away = healthy_settings.model_copy(
        update={"database_url": f"postgresql+psycopg://x@127.0.0.1:{servers.free_port()}/x"}
    )
    assert "SORTBELT_DATABASE_URL" in bad(away)["database"]


def test_jobs_that_should_have_been_purged(healthy_db, healthy_settings):
    """Only where they are not kept for ever, and have been too old for a day."""
    execute(healthy_db, "UPDATE jobs SET finished_at = '2020-01-01 00:00:00'")
    assert "without end" in found(healthy_settings)["retention"].detail
    short = healthy_settings.model_copy(update={"retention_days": 30.0})
    assert "SORTBELT_RETENTION_DAYS" in bad(short)["retention"]
    retention.run_purge(healthy_db, local.LocalBlobStore(Path(healthy_settings.blob_store)), days=30)
    assert found(short)["retention"].ok


def test_no_worker(db, healthy_settings):
    """It says how to start one."""
    assert "python -m worker" in bad(healthy_settings)["workers"]


def test_workers_that_get_nothing_done(healthy_db, healthy_settings):
    """Live workers without progress while images are queued are reported."""
    long_ago = workers.clock.now(-3600)
    execute(healthy_db, sa.update(workers.WORKERS).values(started_at=long_ago, last_progress_at=long_ago))
    assert "logs" in bad(healthy_settings)["workers"]


def test_queued_images_whose_blobs_are_missing(healthy_db, healthy_settings, owner):
    """Queued, and nothing lies where it should."""
    factories.create_job(healthy_db, owner, "x", "y")
    assert "2 of 2" in found(healthy_settings)["queued blobs"].detail
    assert "SORTBELT_BLOB_STORE" in bad(healthy_settings)["queued blobs"]


def test_a_postgres_that_may_forget(postgres_db, healthy_settings):
    """The server of the tests does: its commits are not waited for."""
    there = healthy_settings.model_copy(
        update={"database_url": postgres_db.engine.url.render_as_string(hide_password=False)}
    )
    assert "fsync" in bad(there)["durability"]
    assert "synchronous_commit" in bad(there)["durability"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_sqlite_that_does_not_write_ahead(db, healthy_settings, monkeypatch):
    """As on a network's folder."""
    from core.db import database

    monkeypatch.setattr(database, "_prepare_sqlite", lambda c, _, **__: setattr(c, "isolation_level", None))
    execute(db, "SELECT 1")
    db.close()
    with sa.create_engine(healthy_settings.database_url, poolclass=sa.NullPool).connect() as c:
        c.exec_driver_sql("PRAGMA journal_mode = DELETE")
    assert "local disk" in bad(healthy_settings)["durability"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_clock_that_is_wrong(healthy_db, healthy_settings, monkeypatch):
    """Ours, this time: a minute beside that of the database and that of Redis."""

    class Late(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=60)

    monkeypatch.setattr(doctor, "datetime", Late)
    monkeypatch.setattr(preflight, "time", modules.with_changes(time, time=lambda: time.time() - 60))
    wrong = bad(healthy_settings)
    assert "NTP" in wrong["clock"]
    assert "NTP" in wrong["redis clock"]
    assert datetime.now(UTC) < Late.now(UTC)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decode_seconds", 90, "SORTBELT_DECODE_SECONDS"),
        ("task_seconds", 90, "SORTBELT_TASK_SECONDS"),
        ("max_image_bytes", 100_000_000, "SORTBELT_MAX_IMAGE_BYTES"),
        ("api_threads", 64, "SORTBELT_API_THREADS"),
        ("lease_seconds", 0.5, "SORTBELT_LEASE_SECONDS"),
        ("decode_memory_bytes", 10**15, "SORTBELT_DECODE_MEMORY_BYTES"),
    ],
)
def test_settings_that_do_not_fit_together(healthy_settings, name, value, message):
    """Each is fine by itself."""
    assert message in bad(healthy_settings.model_copy(update={name: value}))["settings"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "version"), [("celery", "5.7.0"), ("pillow", "9.5.0")])
def test_libraries_that_are_others(healthy_db, healthy_settings, monkeypatch, name, version):
    """A Celery that ends on a restart of Redis; a Pillow with holes."""
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: version if asked == name else real(asked))
    finding = found(healthy_settings)["libraries"]
    assert not finding.ok
    assert f"{name} is {version}" in finding.detail
    assert "make setup" in finding.hint


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_redis_that_forgets_is_full_or_a_replica(healthy_db, healthy_settings):
    """Each for real, on a Redis of this test's own."""
    with servers.run_redis() as (url, _), redis.Redis.from_url(url) as client:
        there = healthy_settings.model_copy(update={"redis_url": url})
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in bad(there)["redis policy"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1_000_000)
        assert "more memory" in bad(there)["redis memory"]
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", servers.free_port())
        assert "master" in bad(there)["redis role"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_redis_that_is_away(healthy_db, healthy_settings):
    """It is said that work goes on."""
    away = healthy_settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{servers.free_port()}/0"})
    assert "Without it" in bad(away)["redis"]


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
    """Those with a known vulnerability are reported, except for a private one."""
    assert preflight._check_redis_version(version, private=private).ok is ok


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_store_that_cannot_be_written(healthy_db, healthy_settings, tmp_path):
    """A file where the folder should be."""
    (tmp_path / "file").write_text("in the way")
    assert (
        "SORTBELT_BLOB_STORE"
        in bad(healthy_settings.model_copy(update={"blob_store": str(tmp_path / "file")}))["blobs"]
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_disk_that_is_nearly_full(healthy_db, healthy_settings, monkeypatch):
    """Of the blob store and of the database; as if more were needed than any disk has."""
    monkeypatch.setattr(preflight, "MIN_FREE_BYTES", 10**18)
    monkeypatch.setattr(preflight, "MIN_FREE_INODES", 10**15)
    wrong = bad(healthy_settings)
    assert "Free some space" in wrong["disk"]
    assert "Free some space" in wrong["database disk"]
    assert "files" in wrong["disk files"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_command_prints_each_finding_and_its_code_says_whether_all_is_well(healthy_db, healthy_settings):
    """For people a line, and below what is wrong how to mend it; as JSON for machines."""
    chosen = {
        "DATABASE_URL": healthy_settings.database_url,
        "REDIS_URL": healthy_settings.redis_url,
        "BLOB_STORE": healthy_settings.blob_store,
    }
    environ = {**os.environ, **{f"SORTBELT_{name}": value for name, value in chosen.items()}}
    execute(healthy_db, "DELETE FROM results")
    command = [sys.executable, "-m", "core.maintenance.doctor"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("BAD  finished images without result: 2"))
    assert lines[place + 1].strip() == "This is a defect; report it."
    as_json = subprocess.run([*command, "--json"], env=environ, capture_output=True, text=True, check=False)
    checks = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert {check["check"]: check["ok"] for check in checks}["finished images without result"] is False
    assert all(set(check) == {"check", "ok", "detail", "mend"} for check in checks)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_old_names_of_settings_are_a_warning_with_the_new_name(healthy_db, healthy_settings, monkeypatch, capsys):
    """They work for one more release, so the exit code is not affected."""
    monkeypatch.setenv("SORTBELT_DECODERS", "3")
    monkeypatch.setattr(doctor.settings, "read_or_exit", lambda: healthy_settings)
    monkeypatch.setattr(sys, "argv", ["doctor"])
    all_ok = all(result.ok for result in doctor.run_checks(healthy_settings))
    assert doctor.main() == (0 if all_ok else 1)
    lines = capsys.readouterr().out.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("WARN setting names: "))
    assert lines[place] == "WARN setting names: SORTBELT_DECODERS is now SORTBELT_DECODER_PROCESSES"
    assert "SORTBELT_DECODER_PROCESSES" in lines[place + 1]
