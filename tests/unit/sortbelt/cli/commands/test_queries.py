"""The commands that ask: jobs, results, stats, diff, verify, retry."""

import csv
import io
import json

import pytest

from sortbelt.cli.commands import _completion
from sortbelt.client.sync_client import Client
from tests.support import fake_api


@pytest.fixture
def mixed_job(run_cli, tmp_path):
    """A job of two good images and a broken one."""
    for name in ("a.jpg", "b.jpg", "broken.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return json.loads(run_cli("submit", *sorted(tmp_path.glob("*.jpg")), "--json").out)["id"]


def asked(server):
    return server.requests[-1][1]


def test_jobs_are_listed_newest_first(run_cli, server, mixed_job, tmp_path):
    newer = json.loads(run_cli("submit", tmp_path / "a.jpg", "--json").out)["id"]

    assert [line.split("\t")[0] for line in run_cli("jobs").out.splitlines()] == [newer, mixed_job]
    assert [one["id"] for one in json.loads(run_cli("jobs", "--json").out)["jobs"]] == [newer, mixed_job]
    assert run_cli("jobs", "--since", "2026-02-01").out == run_cli("jobs", "--until", "2026-01-01").out == ""
    assert run_cli("jobs", "--since", "2026-01-31T12:00:00Z", "--model", "fake").out.count("\n") == 2
    assert run_cli("jobs", "--model", "other").out == ""
    assert run_cli("jobs", "--since", "tomorrow").code == 2
    few = run_cli("jobs", "--limit", "1")
    assert few.out.count("\n") == 1
    assert "more than these 1" in few.err


def test_what_was_purged_is_listed_by_its_receipts(run_cli, server):
    times = {"created_at": "2026-01-01T00:00:00Z", "purged_at": "2026-02-01T00:00:00Z", "emptied_at": None}
    server.purges = [{"job_id": f"j{n}", "owner": "k", "model": "m", "images": 2, "bytes": 99, **times} for n in "abc"]
    server.max_page_size = 1

    table = run_cli("jobs", "--purged").out.splitlines()

    assert [line.split("\t")[:5] for line in table] == [[f"j{n}", "k", "m", "2", "99"] for n in "abc"]
    assert json.loads(run_cli("jobs", "--purged", "--limit", "2", "--json").out) == {"purges": server.purges[:2]}
    assert run_cli("jobs", "--purged", "--model", "m").code == 2


def test_every_filter_of_jobs_reaches_the_server(run_cli, server, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "sortbelt.client.sync_client.Client.jobs", lambda _, **filters: asked.update(filters) or iter(())
    )
    words = ["--owner", "o", "--model", "m", "--status", "done", "--name", "n", "--since", "24h"]
    assert run_cli("jobs", *words, "--until", "2026-02-01").code == 0

    expected = {"owner": "o", "model": "m", "status": "done", "name": "n", "since": "24h", "until": "2026-02-01"}
    assert asked == expected


def test_a_job_is_named_found_and_deleted(run_cli, server, tmp_path):
    """By its name; its failures are in its status; deleting asks first, and leaves a receipt."""
    (tmp_path / "good.jpg").write_bytes(b"x")
    (tmp_path / "broken.jpg").write_bytes(b"x")
    words = [tmp_path / "good.jpg", tmp_path / "broken.jpg", "--name", "lunch", "--wait", "--json"]
    job_id = json.loads(run_cli("submit", *words).out)["id"]
    row = run_cli("jobs", "--name", "unc").out.split("\t")
    assert (row[0], row[1], row[9], row[11]) == (job_id, "done, 1 failed", "lunch", "me")
    assert "dinner" in run_cli("rename", job_id, "dinner").out
    assert run_cli("jobs", "--name", "lunch").out == ""
    assert "empty" in run_cli("retry", job_id).err
    assert run_cli("delete").code == 2
    assert run_cli("delete", job_id).code == 1  # there is no answer
    assert run_cli("delete", job_id, "--yes").out.split("\t")[:2] == [job_id, "1"]
    assert run_cli("status", job_id).code == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_deleted_before_an_error_has_its_receipt(run_cli, as_json):
    """The next job does not exist."""
    job_id = json.loads(run_cli("submit", __file__, "--json").out)["id"]
    run = run_cli("delete", job_id, "no-such-job", "--yes", *["--json"] * as_json)
    assert run.code == 2
    assert "no-such-job" in run.err
    assert (json.loads(run.out)["purges"][0]["job_id"] if as_json else run.out.split("\t")[0]) == job_id
    assert run_cli("delete", "no-such-job", "--yes", *["--json"] * as_json).out == ""


def test_a_misspelled_command_names_the_closest_one(run_cli):
    """If one is close."""
    assert "Did you mean `sortbelt results`?" in run_cli("result").err
    assert "Did you mean" not in run_cli("xyzzy").err


def test_the_tab_key_completes_jobs_labels_and_models(run_cli, server, mixed_job, monkeypatch):
    """As far as a server answers; without one there is no completion and no message."""
    server.models = [{"name": "m", "version": "2", "stage": "live", "labels": ["sushi", "soup"]}]
    monkeypatch.setenv("SORTBELT_URL", server.url)
    monkeypatch.setenv("SORTBELT_KEY", fake_api.KEY)

    def values(complete, text):
        return [item.value for item in complete(None, None, text)]

    assert values(_completion.jobs, mixed_job[:3]) == [mixed_job]
    assert values(_completion.labels, "su") == ["sushi"]
    assert (values(_completion.models, ""), values(_completion.versions, "m@")) == (["m"], ["m@2"])
    monkeypatch.setenv("SORTBELT_URL", "http://127.0.0.1:1")
    assert values(_completion.jobs, "") == []


def test_every_filter_reaches_the_server(run_cli, server, monkeypatch):
    asked = {}
    monkeypatch.setattr("sortbelt.client.sync_client.Client.search", lambda _, **filters: asked.update(filters) or ())
    words = ["--label", "a", "--min-confidence", "0.1", "--max-confidence", "0.9", "--status", "done", "--error", "x"]
    words += ["--since", "2026-01-01", "--until", "2026-02-01", "--model", "m", "--owner", "o", "--name", "n"]
    words += ["--version", "3", "--reviewed", "--custom-id", "c"]
    words += ["--min-familiarity", "0.2", "--max-familiarity", "0.8"]

    assert run_cli("results", *words, "--order", "confidence").code == 0
    assert asked == {
        "label": "a",
        "min_confidence": 0.1,
        "max_confidence": 0.9,
        "reviewed": True,
        "min_familiarity": 0.2,
        "max_familiarity": 0.8,
        "status": "done",
        "error": "x",
        "since": "2026-01-01",
        "until": "2026-02-01",
        "model": "m",
        "version": "3",
        "owner": "o",
        "name": "n",
        "custom_id": "c",
        "order": "confidence",
    }


def test_ndjson_has_one_object_to_a_line(run_cli, mixed_job, tmp_path):
    run_cli("results", mixed_job, "--out", tmp_path / "o.jsonl")
    lines = (tmp_path / "o.jsonl").read_text().splitlines()

    assert [json.loads(line)["image"] for line in lines] == ["a.jpg", "b.jpg", "broken.jpg"]
    assert run_cli("results", mixed_job, "--format", "ndjson", "--label", "sushi").out.count("\n") == 2


def test_csv_is_the_servers_own(run_cli, server, mixed_job, tmp_path):
    """Byte for byte: with scores, and with times as the server writes them."""
    with Client(server.url, fake_api.KEY) as client:
        served = b"".join(client.export("text/csv", mixed_job))

    assert run_cli("results", mixed_job, "--format", "csv").out.splitlines() == served.decode().splitlines()
    assert run_cli("results", mixed_job, "--out", tmp_path / "o.csv").out == ""
    assert (tmp_path / "o.csv").read_bytes() == served
    (first, *_) = csv.DictReader(io.StringIO(served.decode(), newline=""))
    assert (json.loads(first["scores"]), first["finished_at"]) == (
        {"sushi": 0.75, "sandwich": 0.25},
        "2026-01-31T12:00:01Z",
    )


@pytest.mark.parametrize("max_server_limit", [1, 1000])
def test_rows_of_a_stream_are_limited(run_cli, mixed_job, monkeypatch, max_server_limit):
    """Also beyond the limit that the server accepts."""
    monkeypatch.setattr("sortbelt.cli.commands.results.MAX_SERVER_LIMIT", max_server_limit)

    assert run_cli("results", mixed_job, "--format", "csv", "--limit", "2").out.count("\n") == 3
    assert run_cli("results", mixed_job, "--format", "ndjson", "--limit", "2").out.count("\n") == 2
    monkeypatch.setattr("sortbelt.cli.commands.results.DEFAULT_LIMIT", 2)
    search = run_cli("results", "--format", "csv")
    assert (search.out.count("\n"), search.err) == (3, "There are more than these 2: --limit or --out gets them.\n")


def test_results_of_an_unknown_job_are_not_found_in_any_format(run_cli, mixed_job):
    for words in ([], ["--format", "csv"], ["--format", "csv", "--label", "sushi"], ["--format", "labelstudio"]):
        assert run_cli("results", "none", *words).code == 2


@pytest.mark.parametrize("name", ["o.xlsx", "o.csv.gz", "o.xml"])
def test_a_file_with_the_suffix_of_another_format_is_wrong_usage(run_cli, mixed_job, tmp_path, name):
    """It would be a table of another format than its name says."""
    run = run_cli("results", mixed_job, "--out", tmp_path / name)

    assert (run.code, list(tmp_path.glob("o.*"))) == (2, [])
    assert f"{name} names no format: use .jsonl, .json, .csv, .ndjson, .parquet or .txt, or add --format." in run.err
    assert run_cli("results", mixed_job, "--out", tmp_path / name, "--format", "csv").code == 0


def test_two_formats_are_wrong_usage(run_cli, mixed_job):
    run = run_cli("results", mixed_job, "--json", "--format", "csv")

    assert run.code == 2
    assert "--json and --format csv differ: give one of them." in run.err
    assert run_cli("results", mixed_job, "--json", "--format", "json").code == 0


@pytest.mark.parametrize(("suffix", "kind"), [("parquet", b"vnd.apache.parquet"), ("labelstudio", b"label-studio")])
def test_what_the_server_makes_is_written_as_it_comes(run_cli, server, mixed_job, tmp_path, suffix, kind):
    file = tmp_path / f"o.{suffix}"

    assert run_cli("results", mixed_job, "--status", "done", "--out", file).code == 0

    head, rows = file.read_bytes().split(b"\n")
    assert kind in head
    assert [row["image"] for row in json.loads(rows)] == ["a.jpg", "b.jpg"]


def test_a_server_that_cannot_make_a_form_is_reported_and_no_file_is_left(run_cli, server, mixed_job, tmp_path):
    server.is_legacy = True

    run = run_cli("results", mixed_job, "--out", tmp_path / "o.parquet")

    assert run.code == 2
    assert "does not support the format application/vnd.apache.parquet" in run.err
    assert not list(tmp_path.glob("*o.parquet*"))


def test_a_download_that_breaks_off_leaves_no_file(run_cli, server, mixed_job, tmp_path):
    server.faults = ["drop"]

    run = run_cli("results", mixed_job, "--out", tmp_path / "o.parquet")

    assert run.code == 3
    assert not list(tmp_path.glob("*o.parquet*"))


def test_diff_counts_pairs_of_labels(run_cli, mixed_job):
    """With exit code 1, since the jobs differ."""
    run = run_cli("diff", mixed_job, mixed_job, "--pairs")

    assert (run.code, run.out) == (1, "sushi\tsandwich\t2\n\tsushi\t1\n")
    assert run.err == "6 of 9 images have the same label in both.\n"
    assert json.loads(run_cli("diff", mixed_job, mixed_job, "--pairs", "--json").out)["agreeing"] == 6


def test_stats_count_by_group(run_cli, mixed_job):
    assert run_cli("stats", mixed_job).out == "sushi\t2\t\n\t1\t\n"
    assert json.loads(run_cli("stats", "--status", "done", "--json").out)["stats"] == [
        {"key": "sushi", "count": 2, "confidence": None}
    ]


def test_failed_images_are_retried(run_cli, server, mixed_job):
    run = run_cli("retry", mixed_job, "--wait", "--json")

    assert run.code == 1
    assert json.loads(run.out)["counts"]["total"] == 1
    assert json.loads(run.out)["id"] != mixed_job


def test_two_jobs_are_compared(run_cli, server, mixed_job, tmp_path):
    same = run_cli("diff", mixed_job, mixed_job)
    (tmp_path / "c.jpg").write_bytes(b"c")
    other = json.loads(run_cli("submit", tmp_path / "a.jpg", tmp_path / "c.jpg", "--json").out)["id"]

    different = run_cli("diff", mixed_job, other)
    report = json.loads(run_cli("diff", mixed_job, other, "--limit", "1", "--json").out)

    assert (same.code, same.out, same.err) == (0, "", "3 same\n")
    assert different.code == 1
    assert [line.split("\t")[:2] for line in different.out.splitlines()] == [
        ["b.jpg", "only in the first"],
        ["broken.jpg", "only in the first"],
        ["c.jpg", "only in the second"],
    ]
    assert report["counts"] == {"same": 1, "only in the first": 2, "only in the second": 1}
    assert len(report["differences"]) == 1
    assert run_cli("diff", mixed_job, "none").code == 2


def test_a_second_look_from_another_environment_says_so(run_cli, server, mixed_job):
    result = json.loads(run_cli("results", mixed_job, "--format", "ndjson", "--limit", "1").out)["id"]
    real, at = server.results, {"precision": "x", "torch": "2", "decoder": "y", "sortbelt": "0.1.0"}
    devices = {mixed_job: {**at, "device": "NVIDIA H200"}, None: {**at, "device": "cpu", "torch": "3"}}
    server.results = lambda of: ({**r, "environment": devices.get(of["id"], devices[None])} for r in real(of))

    report = run_cli("verify", result)
    changes = json.loads(run_cli("verify", result, "--json").out)["environment_changes"]

    assert report.code == 0
    assert report.err.splitlines()[-2] == "The environment differs: device was NVIDIA H200, is cpu; torch was 2, is 3."
    assert changes == {"device": ["NVIDIA H200", "cpu"], "torch": ["2", "3"]}


def test_a_result_is_verified_by_a_second_look(run_cli, server, mixed_job):
    result = json.loads(run_cli("results", mixed_job, "--format", "ndjson", "--limit", "1").out)["id"]

    well = run_cli("verify", result)
    real = server.results
    server.results = lambda job: (r if r["id"] == result else {**r, "label": "sandwich"} for r in real(job))
    other = run_cli("verify", result, "--json")

    assert (well.code, well.err.splitlines()[-1]) == (0, "The results are the same.")
    assert other.code == 1
    assert json.loads(other.out)["after"]["label"] == "sandwich"
    assert run_cli("verify", "none").code == 2
