import csv
import io
import json

import pyarrow.parquet
import pytest

from api.http import export_formats, streams
from core.db.queries import api_keys, results
from tests.support import factories
from tests.support.api_client import assert_problem


def stream(api_client, path, form):
    """Return the whole stream in a format."""
    response = api_client.get(path, headers={"Accept": form})
    assert response.status_code == 200, response.text
    assert response.mimetype == form
    assert response.headers["Vary"] == "Accept"
    return response.data


@pytest.fixture
def multi_page_job(db, submit_client, monkeypatch):
    """A job of eleven results, one of them an error, and pages of four."""
    monkeypatch.setattr(streams, "STREAM_PAGE_ROWS", 4)
    monkeypatch.setattr(export_formats, "ROW_GROUP_SIZE", 5)
    files = [(f"{n:02}", factories.make_image(n)) for n in range(10)] + [("odd, näme;", b"not an image")]
    job = submit_client.post("/v1/jobs", images=files).json
    factories.complete_claims(db, factories.claim_images(db), factories.create_environment(db))
    return job


def test_ndjson_is_the_json_of_all_pages(submit_client, multi_page_job):
    """One object per line, the same as in the pages, and more than a hundred."""
    rows = [
        json.loads(line)
        for line in stream(submit_client, multi_page_job["results_url"], "application/x-ndjson").splitlines()
    ]
    assert rows == submit_client.get(multi_page_job["results_url"]).json["results"]
    assert len(rows) == 11


def test_csv_reads_back(submit_client, multi_page_job):
    """Odd names in quotes, scores as JSON, empty cells for null."""
    text = stream(submit_client, multi_page_job["results_url"], "text/csv").decode()
    rows = {row["image"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert len(rows) == 11
    assert list(rows["00"]) == list(export_formats.COLUMNS)
    assert (rows["00"]["label"], float(rows["00"]["confidence"]), rows["00"]["cached"]) == ("sushi", 0.9, "false")
    assert json.loads(rows["00"]["scores"]) == {"sushi": 0.9, "sandwich": 0.1}
    assert rows["odd, näme;"]["error_code"] == "unsupported_format"
    assert {name: rows["00"][name] for name in factories.ENVIRONMENT} == factories.ENVIRONMENT
    assert rows["00"]["worker"] == "me"
    assert (rows["00"]["familiarity"], rows["odd, näme;"]["familiarity"]) == ("0.5", "")
    assert rows["odd, näme;"]["label"] == rows["odd, näme;"]["scores"] == rows["odd, näme;"]["device"] == ""


def test_formulas_are_escaped_in_csv_and_exact_elsewhere(db, submit_client):
    """A spreadsheet would evaluate them; a program needs the exact name."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\uff1d1", "a;=1", "a=b"]
    files, ids = [(name, factories.make_image(n)) for n, name in enumerate(names)], dict.fromkeys(names, "=2")
    job = submit_client.post("/v1/jobs", images=files, data={"custom_ids": json.dumps(ids)}).json
    factories.complete_claims(db, factories.claim_images(db))
    rows = list(csv.DictReader(io.StringIO(stream(submit_client, job["results_url"], "text/csv").decode(), newline="")))
    assert [row["image"] for row in rows] == [*(f"'{name}" for name in names[:-2]), "a;'=1", "a=b"]
    assert {row["custom_id"] for row in rows} == {"'=2"}
    table = pyarrow.parquet.read_table(
        io.BytesIO(stream(submit_client, job["results_url"], "application/vnd.apache.parquet"))
    )
    assert table["image"].to_pylist() == names
    lines = stream(submit_client, job["results_url"], "application/x-ndjson").splitlines()
    assert [json.loads(line)["image"] for line in lines] == names


def test_parquet_is_written_by_row_groups(submit_client, multi_page_job):
    """So that a million rows are never in memory at the same time."""
    file = pyarrow.parquet.ParquetFile(
        io.BytesIO(stream(submit_client, multi_page_job["results_url"], "application/vnd.apache.parquet"))
    )
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [5, 5, 1]
    rows = {row["image"]: row for row in file.read().to_pylist()}
    assert (rows["03"]["label"], rows["03"]["confidence"], rows["03"]["cached"]) == ("sushi", 0.9, False)
    assert dict(rows["03"]["scores"]) == {"sushi": 0.9, "sandwich": 0.1}
    assert (rows["03"]["familiarity"], rows["odd, näme;"]["familiarity"]) == (0.5, None)
    assert rows["03"]["finished_at"].tzinfo is not None
    assert (rows["03"]["device"], rows["03"]["worker"]) == (factories.ENVIRONMENT["device"], "me")
    assert rows["odd, näme;"]["scores"] is rows["odd, näme;"]["device"] is None


def test_label_studio_tasks_have_predictions(submit_client, multi_page_job):
    """One task per image; one without a label has no prediction."""
    tasks = json.loads(stream(submit_client, multi_page_job["results_url"], "application/vnd.label-studio+json"))
    matches = {task["data"]["image"]: task["predictions"] for task in tasks}
    assert len(matches) == 11
    assert matches["00"][0]["result"][0]["value"] == {"choices": ["sushi"]}
    assert matches["00"][0]["score"] == 0.9
    assert matches["odd, näme;"] == []
    assert all(task["meta"]["result_id"].isdecimal() for task in tasks)


@pytest.mark.parametrize("form", export_formats.EXPORTERS)
def test_an_empty_stream_is_a_valid_file(submit_client, form):
    """Also without any result."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    data = stream(submit_client, job["results_url"], form)
    if form == "application/vnd.apache.parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(data)).num_rows == 0
    elif form == "application/vnd.label-studio+json":
        assert json.loads(data) == []
    else:
        assert len(data.splitlines()) <= 1


@pytest.mark.parametrize("form", export_formats.EXPORTERS)
def test_each_page_is_a_chunk_however_rare_the_matches_are(admin_client, multi_page_job, monkeypatch, form):
    """Other callers have their turns between chunks, and a client that has gone is noticed; empty ones are harmless."""
    monkeypatch.setitem(results.list_page.__kwdefaults__, "max_scanned", 1)
    reads, real = [], results.list_page
    monkeypatch.setattr(results, "list_page", lambda *args, **how: reads.append(how) or real(*args, **how))
    response = admin_client.get("/v1/results?name=5", headers={"Accept": form})
    chunks, reads_before = [], []
    for chunk in response.response:
        reads_before.append(len(reads))
        chunks.append(chunk)
    assert len(reads) > 11
    assert set(range(1, len(reads) + 1)) <= set(reads_before)
    data = b"".join(chunks)
    if form == "application/vnd.apache.parquet":
        names = pyarrow.parquet.read_table(io.BytesIO(data))["image"].to_pylist()
    elif form == "text/csv":
        names = [row["image"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]
    elif form == "application/x-ndjson":
        names = [json.loads(line)["image"] for line in data.splitlines()]
    else:
        names = [task["data"]["image"] for task in json.loads(data)]
    assert names == ["05"]


def test_a_stream_ends_at_its_limit(submit_client, multi_page_job):
    """Across pages too; and a cursor continues it."""
    first = submit_client.get(f"{multi_page_job['results_url']}?limit=3")
    cursor = first.headers["Link"].partition("cursor=")[2].partition(">")[0]
    path = f"{multi_page_job['results_url']}?limit=6&cursor={cursor}"
    lines = stream(submit_client, path, "application/x-ndjson").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [f"{n:02}" for n in range(3, 9)]


def test_results_across_jobs_are_streamed_with_filters(submit_client, multi_page_job):
    """Newest first."""
    lines = stream(submit_client, "/v1/results?status=done", "application/x-ndjson").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [f"{n:02}" for n in range(9, -1, -1)]


def test_the_preferred_format_is_used(submit_client, multi_page_job):
    """By its weight; JSON for `*/*`."""
    for accept, form in (
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/*", "text/csv"),
    ):
        assert submit_client.get(multi_page_job["results_url"], headers={"Accept": accept}).mimetype == form


def test_an_unsupported_format_is_rejected_with_the_supported_ones(submit_client, multi_page_job):
    """406, not silently another format."""
    detail = assert_problem(
        submit_client.get(multi_page_job["results_url"], headers={"Accept": "application/xml"}), 406, "not_acceptable"
    )
    assert "text/csv" in detail


def test_errors_come_before_a_stream_begins(submit_client, other_client, multi_page_job):
    """As a problem, not an empty file."""
    accept = {"Accept": "text/csv"}
    assert_problem(other_client.get(multi_page_job["results_url"], headers=accept), 404, "job_not_found")
    assert_problem(submit_client.get(f"{multi_page_job['results_url']}?cursor=x", headers=accept), 422, "bad_parameter")


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_is_cut_off_when_its_key_becomes_invalid(app, submit_client, multi_page_job, db, monkeypatch, how):
    """The caller gets no more results, and notices that the stream is incomplete."""
    monkeypatch.setattr(streams, "KEY_CHECK_SECONDS", 0.0)
    pages_of = submit_client.get(multi_page_job["results_url"], headers={"Accept": "application/x-ndjson"}).response
    assert next(pages_of)
    if how == "revoked":
        db.write(api_keys.revoke, submit_client.id)
    else:
        db.write(api_keys.update, submit_client.id, {"expires_in": 0})
    with pytest.raises(streams.KeyInvalidated):
        list(pages_of)


@pytest.mark.parametrize(
    "accept", ["text/csv; header=present; bom=1", "text/csv;bom=1", 'text/csv; bom="1", */*;q=0.1']
)
def test_csv_for_spreadsheets_begins_with_a_byte_order_mark(submit_client, multi_page_job, accept):
    """Only if it is asked for; the rest is the same."""
    response = submit_client.get(multi_page_job["results_url"], headers={"Accept": accept})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.data == b"\xef\xbb\xbf" + stream(submit_client, multi_page_job["results_url"], "text/csv")


@pytest.mark.parametrize("accept", ["text/csv; header=absent", "text/csv; bom=2", "text/csv; separator=x"])
def test_other_parameters_of_csv_are_not_acceptable(submit_client, multi_page_job, accept):
    """They would be ignored, and the file not be what was asked for."""
    response = submit_client.get(multi_page_job["results_url"], headers={"Accept": accept})
    assert "header=present" in assert_problem(response, 406, "not_acceptable")


@pytest.mark.parametrize("path", ["job", "/v1/results", "/v1/results?order=confidence"])
def test_csv_and_parquet_have_the_same_rows_and_columns_in_the_same_order(submit_client, multi_page_job, path):
    """So that they can be laid side by side."""
    path = multi_page_job["results_url"] if path == "job" else path
    table = pyarrow.parquet.read_table(io.BytesIO(stream(submit_client, path, "application/vnd.apache.parquet")))
    rows = list(csv.reader(io.StringIO(stream(submit_client, path, "text/csv").decode(), newline="")))
    assert rows[0] == table.column_names
    assert [row[0] for row in rows[1:]] == table.column("image").to_pylist()


def test_a_time_without_a_zone_is_taken_as_utc_and_that_is_said(submit_client, multi_page_job):
    """In a header, since exports have no other place for it; a time with a zone needs no remark."""
    for path in ("/v1/results?since=2026-01-31", "/v1/jobs?until=2999-01-31T12:00:00"):
        notice = submit_client.get(path).headers["Sortbelt-Notice"]
        assert path.partition("?")[2] in notice
        assert "T" in notice
        assert "UTC" in notice
    for path in (
        "/v1/results?since=2026-01-31T12:00:00Z",
        "/v1/results?since=2026-01-31T12:00:00%2B02:00",
        "/v1/results",
    ):
        assert "Sortbelt-Notice" not in submit_client.get(path).headers
