"""`sortbelt sql`, and what the tab key knows."""

import csv
import json
import os
import pty
import subprocess
import sys

import click.testing
import pytest

from core.db import database
from sortbelt.cli import main
from tests.support import factories


@pytest.fixture
def finished_database_url(sqlite_database_url):
    """A database with a finished job."""
    db = database.Database(sqlite_database_url)
    owner = factories.create_key(db, "owner")
    factories.create_job(db, owner, "a.jpg", "b.jpg")
    factories.complete_claims(db, factories.claim_images(db))
    db.close()
    return sqlite_database_url


QUERY = "SELECT image, label, confidence FROM v_results ORDER BY image"


def test_a_question_is_answered_as_lines_json_or_csv(run_cli, finished_database_url, monkeypatch):
    monkeypatch.setenv("SORTBELT_DATABASE_URL", finished_database_url)

    assert run_cli("sql", QUERY).out == "a.jpg\tsushi\t0.9000\nb.jpg\tsushi\t0.9000\n"
    report = run_cli("sql", QUERY, "--format", "json").out.splitlines()
    assert json.loads(report[0]) == {"image": "a.jpg", "label": "sushi", "confidence": 0.9}
    rows = list(csv.reader(run_cli("sql", QUERY + ";", "--format", "csv").out.splitlines()))
    assert rows[:2] == [["image", "label", "confidence"], ["a.jpg", "sushi", "0.9"]]


def test_a_text_is_no_formula_in_csv_and_a_number_stays_one(run_cli, finished_database_url):
    run = run_cli(
        "sql", "SELECT '=1+1' AS name, -1 AS number", "--format", "csv", "--database-url", finished_database_url
    )

    assert run.out.splitlines()[1] == "'=1+1,-1"


def test_questions_come_on_standard_input(finished_database_url):
    run = click.testing.CliRunner().invoke(
        main.cli,
        ["sql", "--database-url", finished_database_url],
        input="SELECT ';' AS x;\n\nSELECT count(*)\nFROM v_jobs",
    )

    assert (run.exit_code, run.stdout) == (0, ";\n1\n")


def test_a_reader_that_has_seen_enough_ends_a_query(finished_database_url):
    """As `| head -1` does: without a traceback."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n"
    command = [sys.executable, "-m", "sortbelt", "sql", numbers, "--format", "csv"]
    command += ["--database-url", finished_database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "i\n"
        process.stdout.close()
        assert process.stderr.read() == ""


def test_what_would_change_something_is_refused(run_cli, finished_database_url):
    run = run_cli("sql", "DELETE FROM results", "--database-url", finished_database_url)

    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("sortbelt: The database cannot do this (")
    assert "only reading is allowed" in run.err


def test_a_terminal_is_asked_until_it_has_enough(finished_database_url):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "sortbelt", "sql", "--database-url", finished_database_url]
    with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        os.close(theirs)
        os.write(ours, b".views\nDELETE FROM\nresults;\nSELECT count(*) AS n FROM v_results;\n.quit\n")
        out, err = run.communicate(timeout=30)
    os.close(ours)

    assert run.returncode == 0
    assert "v_results" in out
    assert "not authorized" in err
    assert "2" in out.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_tab_key_can_be_taught(run_cli, shell):
    run = run_cli("completion", shell)

    assert run.code == 0
    assert "_SORTBELT_COMPLETE" in run.out


def test_the_tab_key_knows_commands_and_options():
    def completed(words):
        environ = {**os.environ, "_SORTBELT_COMPLETE": "bash_complete", "COMP_WORDS": words}
        environ["COMP_CWORD"] = str(words.count(" "))
        run = [sys.executable, "-c", "from sortbelt.cli import main; main.main()"]
        return subprocess.run(run, env=environ, capture_output=True, text=True, check=True).stdout.split()

    assert completed("sortbelt enq") == ["plain,enqueue"]
    assert "plain,--retry-failed" in completed("sortbelt enqueue --re")
