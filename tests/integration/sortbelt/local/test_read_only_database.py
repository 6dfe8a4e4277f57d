import pytest
import sqlalchemy as sa

from core import enums
from core.db import views
from core.db.queries import jobs, new_images, retention, scans
from sortbelt import errors
from sortbelt.cli.commands import sql
from sortbelt.local import read_only_database
from tests.support import factories

SCHEMA = "docs/schema.md"


@pytest.fixture
def shell(db, owner, database_url):
    """A shell on a database with a finished job, and one that waits."""
    factories.create_job(db, owner, "a.jpg", "b.jpg")
    factories.complete_claims(db, factories.claim_images(db))
    factories.create_job(db, owner, "c.jpg")
    with read_only_database.connect(database_url) as execute:
        yield execute


def rows(shell, query):
    return [tuple(row) for row in list(shell(query))[1:]]


def test_the_views_show_jobs_results_and_labels(shell):
    assert rows(shell, "SELECT owner, status, total, done, priority FROM v_jobs ORDER BY done DESC") == [
        ("owner", "done", 2, 2, "bulk"),
        ("owner", "queued", 1, 0, "bulk"),
    ]
    assert rows(shell, "SELECT image, label, confidence, owner FROM v_results ORDER BY image") == [
        ("a.jpg", "sushi", 0.9, "owner"),
        ("b.jpg", "sushi", 0.9, "owner"),
    ]
    assert rows(shell, "SELECT image, status FROM v_waiting") == [("c.jpg", "queued")]
    assert rows(shell, "SELECT label, images FROM v_labels") == [("sushi", 2)]
    ((day, *rest),) = rows(shell, "SELECT * FROM v_days")
    assert (len(day), rest) == (10, ["done", "sushi", 2])


def test_a_purged_job_keeps_its_counts_and_other_images_have_a_location(shell, db, owner):
    db.write(lambda c: c.execute(sa.text("UPDATE jobs SET finished_at = '2020-01-01' WHERE finished_at IS NOT NULL")))
    db.write(retention.purge_step, days=1)
    job = db.write(
        factories.insert_job,
        factories.new_job(owner),
        [new_images.NewImage("d.jpg", "d" * 64, 1, None, None, "nas", "x/d")],
    )

    assert rows(shell, "SELECT total, done FROM v_jobs WHERE purged_at IS NOT NULL") == [(2, 2)]
    assert rows(shell, "SELECT count(*) FROM v_results") == [(0,)]
    assert rows(shell, "SELECT image, source FROM v_waiting ORDER BY image") == [("c.jpg", None), ("d.jpg", "nas")]
    db.write(jobs.cancel, job, owner)
    assert rows(shell, "SELECT source, location FROM v_results") == [("nas", "x/d")]


def test_the_status_of_a_job_in_its_view_is_that_of_the_api(shell, db, owner):
    scanned = db.write(factories.insert_job, factories.new_job(owner, sealed=False), [])
    db.write(scans.create, scanned, owner, scans.NewScan("nas"))
    (claimed,) = db.write(scans.claim, limit=1)
    db.write(scans.finish, claimed, enums.ScanStatus.FAILED, "It is away.")
    assert factories.get_job(db, scanned).status == "failed"
    for job_id, status in rows(shell, "SELECT id, status FROM v_jobs"):
        assert factories.get_job(db, str(job_id)).status == status


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM results",
        "UPDATE jobs SET done = 0",
        "DROP TABLE results",
        "CREATE TABLE mine (x INTEGER)",
        "INSERT INTO workers (id) VALUES ('x')",
        "COMMIT; DELETE FROM results",
        "SELECT 1; DELETE FROM results",
        "WITH gone AS (DELETE FROM results RETURNING *) SELECT * FROM gone",
        "ATTACH DATABASE '/tmp/never.db' AS never",
        "PRAGMA query_only = 0",
        "SELECT load_extension('x')",
        "SET TRANSACTION READ WRITE",
        "BEGIN",
        "nonsense",
    ],
)
def test_nothing_can_be_changed(shell, query):
    try:
        answered = rows(shell, query)
    except errors.BadInput as problem:
        assert str(problem).startswith("The database cannot do this (")  # noqa: PT017 (BEGIN is only a warning on one of them)
    else:
        assert answered == []
    assert rows(shell, "SELECT count(*) FROM results") == [(2,)]
    assert rows(shell, "SELECT count(*) FROM v_jobs") == [(2,)]


def test_a_set_that_would_make_a_session_writing_does_not_help(shell):
    for query in ("SET default_transaction_read_only = off", "COMMIT", "ROLLBACK", "SET SESSION AUTHORIZATION DEFAULT"):
        try:
            rows(shell, query)
        except errors.BadInput:
            continue
    with pytest.raises(errors.BadInput):
        rows(shell, "DELETE FROM results")
    assert rows(shell, "SELECT count(*) FROM results") == [(2,)]


def test_rows_come_as_they_are_asked_for(shell):
    names, *answer = shell(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100000) SELECT x FROM n"
    )

    assert list(names) == ["x"]
    assert len(answer) == 100_000


def test_a_question_without_rows_has_columns(shell):
    names, *answer = shell("SELECT id, name FROM images WHERE name = 'none'")

    assert list(names) == ["id", "name"]
    assert answer == []


def test_the_document_has_every_view_with_its_columns(shell, pytestconfig):
    text = (pytestconfig.rootpath / SCHEMA).read_text(encoding="utf-8")

    assert tuple(views.VIEWS) == sql.VIEWS
    for name in sql.VIEWS:
        section = text.partition(f"## `{name}`")[2].partition("\n## ")[0]
        documented = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        names, *_ = shell(f"SELECT * FROM {name}")  # noqa: S608 (our own names)
        assert documented == list(names), name


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////none/x.db", "unable to open database file.*check --database-url"),
        ("mysql://x", "check --database-url"),
        ("postgresql+psycopg://127.0.0.1:1/x", "refused.*check --database-url"),
    ],
)
def test_a_database_that_cannot_be_asked_is_reported(url, words):
    with pytest.raises(errors.BadInput, match=words):
        read_only_database.connect(url).__enter__()


def test_a_database_that_is_not_ours_is_reported(tmp_path):
    import sqlite3

    sqlite3.connect(tmp_path / "other.db").close()
    (tmp_path / "text.db").write_text("no database at all, but long enough to look at")

    for name in ("other.db", "text.db"):
        with pytest.raises(errors.BadInput, match="sortbelt db upgrade"):
            read_only_database.connect(f"sqlite:///{tmp_path / name}").__enter__()
