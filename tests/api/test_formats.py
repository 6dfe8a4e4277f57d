import csv
import io
import json

import pyarrow.parquet
import pytest

from api import formats, pages, watch
from jobs.store import keys
from tests.api.asking import problem
from tests.jobs import making


def stream(person, path, form):
    """The whole stream in this form."""
    response = person.get(path, headers={"Accept": form})
    assert response.status_code == 200, response.text
    assert response.mimetype == form
    assert response.headers["Vary"] == "Accept"
    return response.data


@pytest.fixture
def many(db, me, monkeypatch):
    """A job of eleven results, one of them an error, and pages of four."""
    monkeypatch.setattr(pages, "PAGE_ROWS", 4)
    monkeypatch.setattr(formats, "GROUP_ROWS", 5)
    files = [(f"{n:02}", making.picture(n)) for n in range(10)] + [("odd, näme;", b"no picture")]
    job = me.post("/v1/jobs", images=files).json
    making.finish(db, making.claim(db), making.environment(db))
    return job


def test_ndjson_is_the_json_of_all_pages(me, many):
    """One object to a line, the same as in the pages, and no end after a hundred."""
    rows = [json.loads(line) for line in stream(me, many["results_url"], "application/x-ndjson").splitlines()]
    assert rows == me.get(many["results_url"]).json["results"]
    assert len(rows) == 11


def test_csv_reads_back(me, many):
    """Odd names in quotes, scores as JSON, nothing where there is nothing."""
    text = stream(me, many["results_url"], "text/csv").decode()
    rows = {row["image"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert len(rows) == 11
    assert list(rows["00"]) == list(formats.COLUMNS)
    assert (rows["00"]["label"], float(rows["00"]["confidence"]), rows["00"]["cached"]) == ("sushi", 0.9, "false")
    assert json.loads(rows["00"]["scores"]) == {"sushi": 0.9, "sandwich": 0.1}
    assert rows["odd, näme;"]["error_code"] == "unsupported_format"
    assert {name: rows["00"][name] for name in making.WHERE} == making.WHERE
    assert rows["00"]["worker"] == "me"
    assert rows["odd, näme;"]["label"] == rows["odd, näme;"]["scores"] == rows["odd, näme;"]["device"] == ""


def test_no_name_is_a_formula_in_csv_and_elsewhere_it_is_exact(db, me):
    """A spreadsheet would run it; a program wants it as it was sent."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\uff1d1", "a=b"]
    files, ids = [(name, making.picture(n)) for n, name in enumerate(names)], dict.fromkeys(names, "=2")
    job = me.post("/v1/jobs", images=files, data={"custom_ids": json.dumps(ids)}).json
    making.finish(db, making.claim(db))
    rows = list(csv.DictReader(io.StringIO(stream(me, job["results_url"], "text/csv").decode(), newline="")))
    assert [row["image"] for row in rows] == [*(f"'{name}" for name in names[:-1]), "a=b"]
    assert {row["custom_id"] for row in rows} == {"'=2"}
    table = pyarrow.parquet.read_table(io.BytesIO(stream(me, job["results_url"], "application/vnd.apache.parquet")))
    assert table["image"].to_pylist() == names
    lines = stream(me, job["results_url"], "application/x-ndjson").splitlines()
    assert [json.loads(line)["image"] for line in lines] == names


def test_parquet_is_written_by_row_groups(me, many):
    """So that a million rows are never in memory at once."""
    file = pyarrow.parquet.ParquetFile(io.BytesIO(stream(me, many["results_url"], "application/vnd.apache.parquet")))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [5, 5, 1]
    rows = {row["image"]: row for row in file.read().to_pylist()}
    assert (rows["03"]["label"], rows["03"]["confidence"], rows["03"]["cached"]) == ("sushi", 0.9, False)
    assert dict(rows["03"]["scores"]) == {"sushi": 0.9, "sandwich": 0.1}
    assert rows["03"]["finished_at"].tzinfo is not None
    assert (rows["03"]["device"], rows["03"]["worker"]) == (making.WHERE["device"], "me")
    assert rows["odd, näme;"]["scores"] is rows["odd, näme;"]["device"] is None


def test_label_studio_gets_tasks_with_predictions(me, many):
    """One task for each picture; one that has no label has no prediction."""
    tasks = json.loads(stream(me, many["results_url"], "application/vnd.label-studio+json"))
    found = {task["data"]["image"]: task["predictions"] for task in tasks}
    assert len(found) == 11
    assert found["00"][0]["result"][0]["value"] == {"choices": ["sushi"]}
    assert found["00"][0]["score"] == 0.9
    assert found["odd, näme;"] == []


@pytest.mark.parametrize("form", formats.STREAMS)
def test_a_stream_of_nothing_is_whole(me, form):
    """No result is no broken file."""
    job = me.post("/v1/jobs", json={"open": True}).json
    data = stream(me, job["results_url"], form)
    if form == "application/vnd.apache.parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(data)).num_rows == 0
    elif form == "application/vnd.label-studio+json":
        assert json.loads(data) == []
    else:
        assert len(data.splitlines()) <= 1


def test_a_stream_ends_at_a_limit_if_one_is_given(me, many):
    """Across pages too; and it goes on from a cursor."""
    first = me.get(f"{many['results_url']}?limit=3")
    cursor = first.headers["Link"].partition("cursor=")[2].partition(">")[0]
    path = f"{many['results_url']}?limit=6&cursor={cursor}"
    lines = stream(me, path, "application/x-ndjson").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [f"{n:02}" for n in range(3, 9)]


def test_results_across_jobs_stream_too_with_their_filters(me, many):
    """Newest first."""
    lines = stream(me, "/v1/results?status=done", "application/x-ndjson").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [f"{n:02}" for n in range(9, -1, -1)]


def test_the_best_of_the_accepted_forms_is_taken(me, many):
    """By its weight; JSON for who takes anything."""
    for accept, form in (
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/*", "text/csv"),
    ):
        assert me.get(many["results_url"], headers={"Accept": accept}).mimetype == form


def test_a_form_that_we_have_not_is_refused_with_those_we_have(me, many):
    """406, not silently another one."""
    detail = problem(me.get(many["results_url"], headers={"Accept": "application/xml"}), 406, "not_acceptable")
    assert "text/csv" in detail


def test_what_is_wrong_is_told_before_a_stream_begins(me, other, many):
    """A stream that cannot be is a problem, not an empty file."""
    accept = {"Accept": "text/csv"}
    problem(other.get(many["results_url"], headers=accept), 404, "job_not_found")
    problem(me.get(f"{many['results_url']}?cursor=x", headers=accept), 422, "bad_parameter")


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_is_cut_off_when_its_key_ends(app, me, many, db, monkeypatch, how):
    """Who was shut out gets no more of a long answer, and sees that it is not whole."""
    monkeypatch.setattr(watch, "KEYS_SECONDS", 0.0)
    pages_of = me.get(many["results_url"], headers={"Accept": "application/x-ndjson"}).response
    assert next(pages_of)
    if how == "revoked":
        db.write(keys.revoke, me.id)
    else:
        db.write(keys.change, me.id, {"expires_in": 0})
    with pytest.raises(pages.KeyEnded):
        list(pages_of)
