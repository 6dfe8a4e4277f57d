"""The commands that ask: jobs, results, stats, diff, verify, retry."""

import json

import pytest


@pytest.fixture
def job(sortbelt, tmp_path):
    """A job of two good pictures and a broken one."""
    for name in ("a.jpg", "b.jpg", "broken.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return json.loads(sortbelt("submit", *sorted(tmp_path.glob("*.jpg")), "--json").out)["id"]


def asked(server):
    return server.asked[-1][1]


def test_jobs_are_listed_newest_first(sortbelt, server, job, tmp_path):
    newer = json.loads(sortbelt("submit", tmp_path / "a.jpg", "--json").out)["id"]

    assert [line.split("\t")[0] for line in sortbelt("jobs").out.splitlines()] == [newer, job]
    assert [one["id"] for one in json.loads(sortbelt("jobs", "--json").out)["jobs"]] == [newer, job]
    assert sortbelt("jobs", "--since", "2026-02-01").out == sortbelt("jobs", "--until", "2026-01-01").out == ""
    assert sortbelt("jobs", "--since", "2026-01-31T12:00:00Z", "--model", "fake").out.count("\n") == 2
    assert sortbelt("jobs", "--model", "other").out == ""
    assert sortbelt("jobs", "--since", "yesterday").code == 2
    few = sortbelt("jobs", "--limit", "1")
    assert few.out.count("\n") == 1
    assert "more than these 1" in few.err


def test_what_was_purged_is_listed_by_its_receipts(sortbelt, server):
    times = {"created_at": "2026-01-01T00:00:00Z", "purged_at": "2026-02-01T00:00:00Z", "emptied_at": None}
    server.purges = [{"job_id": f"j{n}", "owner": "k", "model": "m", "images": 2, "bytes": 99, **times} for n in "abc"]
    server.page = 1

    table = sortbelt("jobs", "--purged").out.splitlines()

    assert [line.split("\t")[:5] for line in table] == [[f"j{n}", "k", "m", "2", "99"] for n in "abc"]
    assert json.loads(sortbelt("jobs", "--purged", "--limit", "2", "--json").out) == {"purges": server.purges[:2]}
    assert sortbelt("jobs", "--purged", "--model", "m").code == 2


def test_every_filter_of_jobs_reaches_the_server(sortbelt, server, monkeypatch):
    asked = {}
    monkeypatch.setattr("sortbelt.client.Client.jobs", lambda _, **filters: asked.update(filters) or iter(()))
    assert sortbelt("jobs", "--owner", "o", "--model", "m", "--status", "done", "--until", "2026-02-01").code == 0

    until = "2026-02-01T00:00:00+00:00"
    assert asked == {"owner": "o", "model": "m", "status": "done", "since": None, "until": until}


def test_every_filter_reaches_the_server(sortbelt, server, monkeypatch):
    asked = {}
    monkeypatch.setattr("sortbelt.client.Client.search", lambda _, **filters: asked.update(filters) or ())
    words = ["--label", "a", "--min-confidence", "0.1", "--max-confidence", "0.9", "--status", "done", "--error", "x"]
    words += ["--since", "2026-01-01", "--until", "2026-02-01", "--model", "m", "--owner", "o", "--name", "n"]
    words += ["--custom-id", "c"]

    assert sortbelt("results", *words, "--order", "confidence").code == 0
    assert asked == {
        "label": "a",
        "min_confidence": 0.1,
        "max_confidence": 0.9,
        "status": "done",
        "error": "x",
        "since": "2026-01-01",
        "until": "2026-02-01",
        "model": "m",
        "owner": "o",
        "name": "n",
        "custom_id": "c",
        "order": "confidence",
    }


def test_ndjson_has_one_object_to_a_line(sortbelt, job, tmp_path):
    sortbelt("results", job, "--out", tmp_path / "o.jsonl")
    lines = (tmp_path / "o.jsonl").read_text().splitlines()

    assert [json.loads(line)["image"] for line in lines] == ["a.jpg", "b.jpg", "broken.jpg"]
    assert sortbelt("results", job, "--format", "ndjson", "--label", "sushi").out.count("\n") == 2


@pytest.mark.parametrize(("suffix", "kind"), [("parquet", b"vnd.apache.parquet"), ("labelstudio", b"label-studio")])
def test_what_the_server_makes_is_written_as_it_comes(sortbelt, server, job, tmp_path, suffix, kind):
    file = tmp_path / f"o.{suffix}"

    assert sortbelt("results", job, "--status", "done", "--out", file).code == 0

    head, rows = file.read_bytes().split(b"\n")
    assert kind in head
    assert [row["image"] for row in json.loads(rows)] == ["a.jpg", "b.jpg"]


def test_a_server_that_cannot_make_a_form_is_told_and_no_file_is_left(sortbelt, server, job, tmp_path):
    server.old = True

    run = sortbelt("results", job, "--out", tmp_path / "o.parquet")

    assert run.code == 2
    assert "does not answer in the form application/vnd.apache.parquet" in run.err
    assert not list(tmp_path.glob("*o.parquet*"))


def test_a_download_that_breaks_off_leaves_no_file(sortbelt, server, job, tmp_path):
    server.faults = [None, "drop"]

    run = sortbelt("results", job, "--out", tmp_path / "o.parquet")

    assert run.code == 3
    assert not list(tmp_path.glob("*o.parquet*"))


def test_stats_count_by_group(sortbelt, job):
    assert sortbelt("stats", job).out == "sushi\t2\t\n\t1\t\n"
    assert json.loads(sortbelt("stats", "--status", "done", "--json").out)["stats"] == [
        {"key": "sushi", "count": 2, "confidence": None}
    ]


def test_what_failed_is_tried_again(sortbelt, server, job):
    run = sortbelt("retry", job, "--wait", "--json")

    assert run.code == 1
    assert json.loads(run.out)["counts"]["total"] == 1
    assert json.loads(run.out)["id"] != job


def test_two_jobs_are_compared(sortbelt, server, job, tmp_path):
    same = sortbelt("diff", job, job)
    (tmp_path / "c.jpg").write_bytes(b"c")
    other = json.loads(sortbelt("submit", tmp_path / "a.jpg", tmp_path / "c.jpg", "--json").out)["id"]

    different = sortbelt("diff", job, other)
    told = json.loads(sortbelt("diff", job, other, "--limit", "1", "--json").out)

    assert (same.code, same.out, same.err) == (0, "", "3 same\n")
    assert different.code == 1
    assert different.out.splitlines()[0].startswith("c.jpg\tonly in the second")
    assert told["counts"] == {"same": 1, "only in the first": 2, "only in the second": 1}
    assert len(told["differences"]) == 1
    assert sortbelt("diff", job, "none").code == 2


def test_a_second_look_from_another_environment_says_so(sortbelt, server, job):
    result = json.loads(sortbelt("results", job, "--format", "ndjson", "--limit", "1").out)["id"]
    real, at = server.results, {"precision": "x", "torch": "2", "decoder": "y", "sortbelt": "0.1.0"}
    devices = {job: {**at, "device": "NVIDIA H200"}, None: {**at, "device": "cpu", "torch": "3"}}
    server.results = lambda of: ({**r, "environment": devices.get(of["id"], devices[None])} for r in real(of))

    told = sortbelt("verify", result)
    changes = json.loads(sortbelt("verify", result, "--json").out)["environment_changes"]

    assert told.code == 0
    assert told.err.splitlines()[-2] == "In another environment: device was NVIDIA H200, is cpu; torch was 2, is 3."
    assert changes == {"device": ["NVIDIA H200", "cpu"], "torch": ["2", "3"]}


def test_a_result_is_verified_by_a_second_look(sortbelt, server, job):
    result = json.loads(sortbelt("results", job, "--format", "ndjson", "--limit", "1").out)["id"]

    well = sortbelt("verify", result)
    real = server.results
    server.results = lambda job: (r if r["id"] == result else {**r, "label": "sandwich"} for r in real(job))
    other = sortbelt("verify", result, "--json")

    assert (well.code, well.err.splitlines()[-1]) == (0, "The same.")
    assert other.code == 1
    assert json.loads(other.out)["after"]["label"] == "sandwich"
    assert sortbelt("verify", "none").code == 2
