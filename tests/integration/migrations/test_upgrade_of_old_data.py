"""A database of the revision before the renames, rows in every table: what the queries say after the upgrade."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

import migrations
from core import enums
from core.db import revision, tables, views
from core.db.queries import (
    api_keys,
    claims,
    counters,
    images,
    invariants,
    jobs,
    known_blobs,
    models,
    purge_log,
    quotas,
    results,
    scans,
    shadows,
    webhook_deliveries,
    webhook_secrets,
    workers,
)
from tests.support import factories
from tests.support.migrating import migrate

KEY = "sb_0a1b2c3d_" + "k" * 43
KEY_ID, DONE, OPEN, PURGED = (f"019a0000-0000-7000-8000-00000000000{n}" for n in range(1, 5))
DELIVERY, SCAN = (f"019a0000-0000-7000-8000-0000000000{n}" for n in ("10", "20"))
THEN, LATER = "2026-01-02 03:04:05.000000", "2099-01-01 00:00:00.000000"
COUNTS = {"cancelled": 0, "expired": 0, "failed": 0}
MODEL = {"name": "m", "version": "1", "digest": "0" * 64}
OLD_ROWS = [
    (
        "api_keys",
        {
            "id": KEY_ID,
            "name": "ann",
            "role": "submit",
            "prefix": "0a1b2c3d",
            "digest": hashlib.sha256(KEY.encode()).hexdigest(),
            "created_at": THEN,
            "images_per_minute": 100,
            "images_left": 40.0,
            "bytes_left": 5.0,
            "spent_at": LATER,
        },
    ),
    *[
        (
            "jobs",
            {
                "id": id_,
                "owner": KEY_ID,
                "model": "m",
                "priority": 1,
                "metadata": '{"a": 1}',
                "idempotency_key": id_[-1],
                "fingerprint": "f",
                "bytes": 7,
                "created_at": THEN,
                "sealed_at": THEN,
                **COUNTS,
                **fields,
            },
        )
        for id_, fields in {
            DONE: {
                "total": 1,
                "done": 1,
                "finished_at": THEN,
                "webhook": "https://hooks.example/x",
                "webhook_root": "https://s/",
            },
            OPEN: {"total": 1, "done": 0, "sealed_at": None},
            PURGED: {"total": 1, "done": 1, "finished_at": THEN, "purged_at": THEN, "emptied_at": THEN},
        }.items()
    ],
    *[
        (
            "images",
            {
                "id": id_,
                "job_id": job,
                "name": f"{id_}.png",
                "sha256": f"{id_:064}",
                "bytes": 7,
                "model": "m",
                "priority": 1,
                "status": status,
                "attempt": attempt,
            },
        )
        for id_, job, status, attempt in ((1, DONE, "done", 1), (2, OPEN, "queued", 0))
    ],
    (
        "environments",
        {"id": 1, "device": "cpu", "precision": "float32", "torch": "2", "decoder": "d", "sortbelt": "0.1.0"},
    ),
    (
        "results",
        {
            "image_id": 1,
            "job_id": DONE,
            "status": "done",
            "label": "sushi",
            "confidence": 0.75,
            "scores": '{"sushi": 0.75}',
            "model": "m",
            "model_version": "1",
            "model_digest": "0" * 64,
            "cached": False,
            "timings": "{}",
            "finished_at": THEN,
            "environment_id": 1,
        },
    ),
    (
        "workers",
        {
            "id": "w",
            "serves": '{"m": "1"}',
            "refuses": '{"m@2": "bad"}',
            "device": "cpu",
            "images": 3,
            "started_at": THEN,
            "seen_at": LATER,
            "progress_at": LATER,
        },
    ),
    ("tallies", {"name": "images", "labels": '["m", "done", "", "false"]', "shard": 0, "value": 12.0}),
    *[
        (
            "models",
            {
                "id": id_,
                **MODEL,
                "version": str(id_),
                "manifest": "{}",
                "stage": stage,
                "created_at": THEN,
                "created_by": KEY_ID,
            },
        )
        for id_, stage in ((1, "live"), (2, "retired"), (3, "shadow"))
    ],
    ("promotions", {"id": 1, "model_id": 1, "promoted_at": THEN}),
    (
        "promotions",
        {"id": 2, "model_id": 2, "promoted_at": THEN, "promoted_by": KEY_ID, "undone_at": THEN, "undone_by": KEY_ID},
    ),
    (
        "shadow_results",
        {"model_id": 3, "image_id": 1, "label": "sandwich", "confidence": 0.5, "timings": "{}", "judged_at": THEN},
    ),
    (
        "deliveries",
        {
            "id": DELIVERY,
            "job_id": DONE,
            "owner": KEY_ID,
            "event": "job.completed",
            "url": "https://hooks.example/x",
            "status": "pending",
            "attempts": 2,
            "next_at": THEN,
            "created_at": THEN,
        },
    ),
    (
        "scans",
        {
            "id": SCAN,
            "job_id": OPEN,
            "source": "camera",
            "prefix": "",
            "include": "[]",
            "exclude": "[]",
            "seals": True,
            "status": "pending",
            "cursor": "a.png",
            "found": 1,
            "skipped": 0,
            "vain": 4,
            "next_at": THEN,
            "created_at": THEN,
        },
    ),
    (
        "signing_secrets",
        {"owner": KEY_ID, "secret": "whsec_b", "created_at": THEN, "previous": "whsec_a", "previous_until": LATER},
    ),
]


def insert_old_rows(conn):
    """Fill the tables of revision 0011."""
    for table, row in OLD_ROWS:
        into = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"  # noqa: S608 (constants of this file)
        conn.execute(sa.text(into), row)


@pytest.fixture
def upgraded_db(db):
    """A database that was filled at revision 0011 and then upgraded."""
    migrate(db, command.downgrade, "base")
    migrate(db, command.upgrade, "0011")
    db.write(insert_old_rows)
    migrate(db, command.upgrade, "head")
    return db


def test_rows_of_every_table_are_readable_after_the_upgrade(upgraded_db):
    """Each column that was renamed holds what it held before."""
    assert {table for table, _ in OLD_ROWS} >= {"api_keys", "jobs", "images", "results", "workers", "environments"}
    added_since = {"reviews", "review_leases", "url_fetches", "installations", "image_deletions"}
    assert len({table for table, _ in OLD_ROWS}) == len(tables.Base.metadata.tables.keys() - added_since)
    read, then = upgraded_db.read, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert read(revision.check) == tables.REVISION

    caller = read(api_keys.authenticate, KEY)
    assert (caller.id, caller.role) == (KEY_ID, enums.Role.SUBMIT)
    assert read(quotas.get_usage, KEY_ID, caller.key_quotas).remaining.images == 40.0

    done, waiting = read(jobs.get, DONE, KEY_ID), read(jobs.get, OPEN, KEY_ID)
    assert (done.status, done.webhook_url, done.public_base_url) == ("done", "https://hooks.example/x", "https://s/")
    assert (waiting.status, waiting.scan_source, waiting.scan_found) == ("queued", "camera", 1)
    (receipt,) = read(purge_log.list_page, KEY_ID, limit=10)
    assert (receipt.id, receipt.purge_completed_at) == (PURGED, then)

    (result,) = read(results.list_page, results.ResultFilter(owner=KEY_ID, model="m"), limit=10)
    assert (result.label, result.model_name, result.model_version, result.device) == ("sushi", "m", "1", "cpu")
    assert read(images.get, 1, KEY_ID).sha256 == f"{1:064}"
    assert read(known_blobs.find_known, KEY_ID, [f"{1:064}"]) == {f"{1:064}": 7}
    (worker,) = read(workers.list_alive)
    assert (worker.loaded_models, worker.rejected_models, worker.is_progressing) == ({"m": "1"}, {"m@2": "bad"}, True)
    assert read(counters.totals) == {("images", "m", "done", "", "false"): 12.0}

    desired = read(models.desired_versions)
    assert [version.version for version in desired.live["m"]] == ["1"]
    live, shadow = (read(models.get_version, "m", version) for version in ("1", "3"))
    (disagreement,) = read(shadows.disagreements, live, shadow, limit=10)
    assert (disagreement.label_a, disagreement.label_b) == ("sushi", "sandwich")

    (delivery,) = read(webhook_deliveries.list_page, KEY_ID, limit=10, filters={})
    assert (delivery.id, delivery.attempts, delivery.next_attempt_at) == (DELIVERY, 2, then)
    assert upgraded_db.write(webhook_secrets.valid_secrets, KEY_ID) == ["whsec_b", "whsec_a"]
    assert read(invariants.miscounted_jobs) == read(invariants.jobs_without_delivery) == 0


def test_work_goes_on_after_the_upgrade(upgraded_db):
    """Queued images are classified, due deliveries are sent, and the scan has its cursor."""
    write = upgraded_db.write
    (claim,) = write(factories.claim_of_all_keys, "w", "m")
    outcome = claims.Outcome(claim, label="sushi", confidence=0.9)
    assert len(write(claims.finish, [outcome], claims.ModelRef("m", "1")).results) == 1
    (delivery,) = write(webhook_deliveries.claim, limit=10, max_per_owner=10)
    assert (delivery.id, delivery.owner, delivery.attempts) == (DELIVERY, KEY_ID, 3)
    (scan,) = write(scans.claim, limit=10)
    assert (scan.owner, scan.cursor, scan.consecutive_failures) == (KEY_ID, "a.png", 4)
    write(scans.finish, scan, enums.ScanStatus.DONE)
    assert upgraded_db.read(jobs.get, OPEN, KEY_ID).status == "done"


def test_a_downgrade_restores_the_old_names(upgraded_db):
    """The older downgrades use them."""
    migrate(upgraded_db, command.downgrade, "0011")
    for table, row in OLD_ROWS:
        query = sa.text(f"SELECT {', '.join(row)} FROM {table}")  # noqa: S608 (constants of this file)
        assert upgraded_db.read(lambda conn, query=query: conn.execute(query).all()), table


def test_the_views_of_the_database_are_those_of_the_code(db):
    """A changed definition needs a migration; every view has the columns of docs/schema.md."""
    documented = Path(migrations.__file__).parent.parent.joinpath("docs", "schema.md").read_text(encoding="utf-8")
    for name, statement in zip(views.VIEWS, views.create_statements(db.dialect_name), strict=True):
        expected = statement.replace(f"CREATE VIEW {name}", f"CREATE TEMP VIEW {name}_of_the_code")
        created, defined, columns = db.write(_describe_view, name, expected)
        assert created == defined, name
        section = documented.partition(f"## `{name}`")[2].partition("\n## ")[0]
        assert columns == [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")], name


def _describe_view(conn, name, temp_statement):
    """Return the text of a view in the database, that of the code's definition, and the view's columns."""
    conn.exec_driver_sql(temp_statement)
    columns = list(conn.exec_driver_sql(f"SELECT * FROM {name} LIMIT 0").keys())  # noqa: S608 (our own names)
    if conn.dialect.name == "sqlite":
        created = conn.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = '{name}'").scalar()  # noqa: S608
        return created.partition(" AS")[2], temp_statement.partition(" AS")[2], columns
    texts = [
        conn.exec_driver_sql(f"SELECT pg_get_viewdef('{view}'::regclass)").scalar()
        for view in (name, f"{name}_of_the_code")
    ]
    return *texts, columns
