"""`sortbelt sql`, and what the tab key knows."""

import csv
import json
import os
import pty
import subprocess
import sys

import click.testing
import pytest

from jobs import database, tables
from jobs.store import keys
from sortbelt import command, views
from tests.jobs import making


@pytest.fixture
def url(sqlite_database_url):
    """A database with a finished job."""
    db = database.Database(sqlite_database_url)
    owner = db.write(keys.create, "somebody", tables.Role.SUBMIT, keys.make()).id
    making.job(db, owner, "a.jpg", "b.jpg")
    making.finish(db, making.claim(db))
    db.close()
    return sqlite_database_url


QUERY = "SELECT image, label, confidence FROM v_results ORDER BY image"


def test_a_question_is_answered_as_lines_json_or_csv(sortbelt, url, monkeypatch):
    monkeypatch.setenv("SORTBELT_DATABASE_URL", url)

    assert sortbelt("sql", QUERY).out == "a.jpg\tsushi\t0.9000\nb.jpg\tsushi\t0.9000\n"
    told = sortbelt("sql", QUERY, "--format", "json").out.splitlines()
    assert json.loads(told[0]) == {"image": "a.jpg", "label": "sushi", "confidence": 0.9}
    rows = list(csv.reader(sortbelt("sql", QUERY + ";", "--format", "csv").out.splitlines()))
    assert rows[:2] == [["image", "label", "confidence"], ["a.jpg", "sushi", "0.9"]]


def test_a_text_is_no_formula_in_csv_and_a_number_stays_one(sortbelt, url):
    run = sortbelt("sql", "SELECT '=1+1' AS name, -1 AS number", "--format", "csv", "--database-url", url)

    assert run.out.splitlines()[1] == "'=1+1,-1"


def test_questions_come_on_standard_input(url):
    run = click.testing.CliRunner().invoke(
        command.cli, ["sql", "--database-url", url], input="SELECT ';' AS x;\n\nSELECT count(*)\nFROM v_jobs"
    )

    assert (run.exit_code, run.stdout) == (0, ";\n1\n")


def test_what_would_change_something_is_refused(sortbelt, url):
    run = sortbelt("sql", "DELETE FROM results", "--database-url", url)

    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("sortbelt: The database says: ")
    assert "only reading is allowed" in run.err


def test_a_terminal_is_asked_until_it_has_enough(url):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "sortbelt", "sql", "--database-url", url]
    with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        os.close(theirs)
        os.write(ours, b".views\nDELETE FROM\nresults;\nSELECT count(*) AS n FROM v_results;\n.quit\n")
        out, err = run.communicate(timeout=30)
    os.close(ours)

    assert run.returncode == 0
    assert "v_results" in out
    assert "not authorized" in err
    assert "2" in out.split()


def test_the_views_are_printed_for_those_who_want_them_for_good(sortbelt):
    assert sortbelt("sql", "--print-views").out.count("CREATE VIEW") == len(views.VIEWS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_tab_key_can_be_taught(sortbelt, shell):
    run = sortbelt("completion", shell)

    assert run.code == 0
    assert "_SORTBELT_COMPLETE" in run.out


def test_the_tab_key_knows_commands_and_options():
    def completed(words):
        environ = {**os.environ, "_SORTBELT_COMPLETE": "bash_complete", "COMP_WORDS": words}
        environ["COMP_CWORD"] = str(words.count(" "))
        run = [sys.executable, "-c", "from sortbelt import command; command.main()"]
        return subprocess.run(run, env=environ, capture_output=True, text=True, check=True).stdout.split()

    assert completed("sortbelt enq") == ["plain,enqueue"]
    assert "plain,--retry-failed" in completed("sortbelt enqueue --re")
