import json

import pytest
import sqlalchemy as sa

from core import errors
from core.db import clock, tables
from core.db.queries import claims as claim_queries
from core.db.queries import job_lists, models, results
from tests.support import factories
from tests.support.api_client import assert_problem, fetch_all_pages, next_page_url


@pytest.fixture
def mixed_results(db, submit_client, other_client):
    """Results of two keys: a.jpg sushi 0.9 and b.jpg undecodable; c.jpg sandwich 0.6 and d.jpg empty of the other."""
    item = factories.create_job(db, submit_client.id, "a.jpg", "b.jpg")
    two = factories.create_job(db, other_client.id, "c.jpg")
    a, b, c = factories.claim_images(db)
    fates = [
        factories.outcome(a),
        claim_queries.Outcome(b, error_code="undecodable", error_detail="No."),
        factories.outcome(c, label="sandwich", confidence=0.6, familiarity=0.01),
    ]
    db.write(claim_queries.finish, fates, factories.MODEL_REF)
    db.write(
        factories.insert_job,
        factories.new_job(other_client.id),
        [factories.new_image("d.jpg", errors.ImageFailed("empty", "Empty."))],
    )
    return {"one": item, "two": two}


def names(api_client, query=""):
    return [row["image"] for row in fetch_all_pages(api_client, f"/v1/results?{query}", "results")]


def upper_end(lower):
    """Return the highest value of a range of a tenth."""
    return 1 if lower == "0.9" else round(float(lower) + 0.1 - 1e-9, 9)


def test_submitters_see_their_own_results_and_others_all(
    mixed_results, submit_client, other_client, read_client, admin_client
):
    """Newest first."""
    assert names(submit_client) == ["b.jpg", "a.jpg"]
    assert names(other_client) == ["d.jpg", "c.jpg"]
    assert names(read_client) == names(admin_client) == ["d.jpg", "c.jpg", "b.jpg", "a.jpg"]
    for path in (f"/v1/results?owner={submit_client.id}", f"/v1/jobs/{mixed_results['one']}/results"):
        assert {row["image"] for row in fetch_all_pages(read_client, path, "results")} == {"a.jpg", "b.jpg"}


QUESTIONS = [
    ("label=sushi", "a"),
    ("status=done", "ca"),
    ("status=failed", "db"),
    ("status=expired", ""),
    ("error=undecodable", "b"),
    ("error=timed_out", ""),
    ("min_confidence=0.7", "a"),
    ("max_confidence=0.7", "c"),
    ("min_confidence=0&max_confidence=1", "ca"),
    ("min_familiarity=0.02", "a"),
    ("max_familiarity=0.02", "c"),
    ("order=familiarity", "ca"),
    ("order=familiarity&limit=1", "ca"),
    ("model=sushi-or-sandwich", "dcba"),
    ("model=sushi-or-sandwich@1", "cba"),
    ("version=1", "cba"),
    ("owner=other", "dc"),
    ("name=A.J", "a"),
    ("name=.jpg", "dcba"),
    ("name=%25", ""),
    ("since=2026-01-01", "dcba"),
    ("since=2026-01-01T00:00:00Z&until=2999-01-01T00:00:00%2B02:00", "dcba"),
    ("until=2026-01-01", ""),
    ("since=24h", "dcba"),
    ("since=yesterday", "dcba"),
    ("until=yesterday", ""),
    ("until=7d", ""),
    ("limit=1", "dcba"),
    ("limit=3&status=done", "ca"),
]


def test_every_filter_works(mixed_results, admin_client, subtests):
    """With all pages of it."""
    for query, found in QUESTIONS:
        with subtests.test(query):
            assert [name[0] for name in names(admin_client, query)] == list(found)


def test_results_are_filtered_by_job(mixed_results, submit_client, admin_client):
    """A job of another key is not found, as everywhere."""
    assert names(admin_client, f"job={mixed_results['two']}") == ["c.jpg"]
    assert names(submit_client, f"job={mixed_results['one']}") == ["b.jpg", "a.jpg"]
    assert_problem(submit_client.get(f"/v1/results?job={mixed_results['two']}"), 404, "job_not_found")


UNKNOWN_VALUES = {
    "label=sushii": "There is no label 'sushii'; there are: sushi, sandwich.",
    "label=": "There is no label ''; there are: sandwich, sushi.",
    "model=sushi": "There is no model 'sushi'; there are: sushi-or-sandwich.",
    "model=sushi-or-sandwich@9": "There is no version '9'; there are: 1.",
    "version=9": "There is no version '9'; there are: 1.",
    "owner=stranger": "There is no key 'stranger'; there are: admin, me, other.",
}


def test_a_filter_whose_value_does_not_exist_names_those_that_do(db, mixed_results, admin_client, subtests):
    """The closest first, for results and for statistics, and a label of the registry needs no result yet."""
    manifest = {"name": factories.MODEL, "version": "1", "digest": "0" * 64, "labels": ["sushi", "sandwich", "soup"]}
    db.write(models.register_bundled, {**manifest, "labels": ["sushi", "sandwich"]})
    for query, sentence in UNKNOWN_VALUES.items():
        for path in ("/v1/results", "/v1/stats"):
            with subtests.test(query, path=path):
                detail = assert_problem(admin_client.get(f"{path}?{query}"), 422, "bad_parameter")
                assert detail == sentence
    assert "undecodable" in assert_problem(admin_client.get("/v1/results?error=undecodabel"), 422, "bad_parameter")
    assert_problem(admin_client.get("/v1/results?model=sushi-or-sandwich@1&version=2"), 422, "bad_parameter")
    db.write(models.register_bundled, manifest)
    assert names(admin_client, "label=soup") == []


MALFORMED = [
    "name=",
    "owner=",
    "min_confidence=x",
    "min_confidence=-0.1",
    "max_confidence=1.1",
    "min_confidence=nan",
    "max_confidence=inf",
    "min_familiarity=-1",
    "max_familiarity=nan",
]
MALFORMED += [
    "since=x",
    "since=",
    "until=tomorrow",
    "since=24",
    "since=-1h",
    "since=2026-13-01",
    "since=1",
    "since=%00",
    "since=99999-01-01",
]
MALFORMED += ["since=0001-01-01T00:00:00%2B23:59", "until=9999-12-31T23:59:59-23:59"]


def test_a_malformed_filter_is_named(mixed_results, admin_client, subtests):
    """422 with the name of the parameter, and what it must be."""
    for query in MALFORMED:
        with subtests.test(query):
            assert query.partition("=")[0] in assert_problem(
                admin_client.get(f"/v1/results?{query}"), 422, "bad_parameter"
            )


def test_odd_texts_in_filters_match_nothing_or_are_rejected(mixed_results, admin_client, subtests):
    """Never a 500, whatever the database does with the text."""
    for filter_ in ("job", "label", "status", "error", "model", "name"):
        for value in ("%00", "a%00b", "%ff", "%ed%a0%80", "'", "%25", "x" * 5000, "%F0%9F%8D%A3", "%5c"):
            with subtests.test(filter_, value=value[:9]):
                response = admin_client.get(f"/v1/results?{filter_}={value}")
                if response.status_code == 200:
                    assert response.json == {"results": []}
                else:
                    assert_problem(response, 422, "bad_parameter")


def test_odd_texts_as_the_status_of_jobs_are_rejected(admin_client, subtests):
    """In the list of jobs too."""
    for status in ("%00", "a%00b", "x" * 5000, "%ff"):
        with subtests.test(status[:9]):
            assert_problem(admin_client.get(f"/v1/jobs?status={status}"), 422, "bad_parameter")


def test_the_least_confident_results_come_first(mixed_results, admin_client):
    """Only those with a label; in pages."""
    for limit in (1, 2, 100):
        assert names(admin_client, f"order=confidence&limit={limit}") == ["c.jpg", "a.jpg"]


def test_a_page_may_be_empty_and_have_a_next_page(monkeypatch, mixed_results, admin_client):
    """Each page scans a limited number of rows: the links lead to rare ones, and a stream has them all."""
    monkeypatch.setitem(results.list_page.__kwdefaults__, "max_scanned", 1)
    monkeypatch.setitem(job_lists.list_page.__kwdefaults__, "max_scanned", 1)
    first = admin_client.get("/v1/results?name=a.jpg")
    assert first.json == {"results": []}
    assert next_page_url(first) is not None
    for order in ("newest", "confidence"):
        assert names(admin_client, f"name=a.jpg&order={order}") == ["a.jpg"]
    stream = admin_client.get("/v1/results?name=a.jpg&limit=5", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["image"] for line in stream.text.splitlines()] == ["a.jpg"]
    assert [job["id"] for job in fetch_all_pages(admin_client, "/v1/jobs?status=done", "jobs")] == [
        mixed_results["two"],
        mixed_results["one"],
    ]
    assert fetch_all_pages(admin_client, "/v1/jobs?status=cancelled", "jobs") == []


def test_filters_by_owner_do_not_show_results_of_others(mixed_results, submit_client, other_client, admin_client):
    """Except to global readers."""
    assert names(admin_client, f"owner={submit_client.id}") == ["b.jpg", "a.jpg"]
    assert names(submit_client, f"owner={other_client.id}") == ["b.jpg", "a.jpg"]
    assert names(admin_client, "version=1") == ["c.jpg", "b.jpg", "a.jpg"]


@pytest.mark.parametrize("name", ["confidence", "familiarity"])
def test_a_histogram_counts_what_its_ranges_select(admin_client, db, owner, name):
    """By each other property too; the filters with the ends of a range select the same results."""
    values = [0.0, 0.0999, 0.1, 0.3, 0.7, 0.7001, 0.95, 1.0]
    factories.create_job(db, owner, *map(str, range(len(values))))
    outcomes = [
        factories.outcome(claim, label="sushi" if index % 2 else "sandwich", **{name: value})
        for index, (claim, value) in enumerate(zip(factories.claim_images(db), values, strict=True))
    ]
    db.write(claim_queries.finish, outcomes, factories.MODEL_REF)

    rows = admin_client.get(f"/v1/stats?group={name}").json["stats"]

    assert [(row["key"], row["count"]) for row in rows] == [("0", 2), ("0.1", 1), ("0.3", 1), ("0.7", 2), ("0.9", 2)]
    for row in rows:
        found = admin_client.get(f"/v1/results?min_{name}={row['key']}&max_{name}={upper_end(row['key'])}")
        assert len(found.json["results"]) == row["count"]
    for by in ("label", "model", "status", "day"):
        divided = admin_client.get(f"/v1/stats?group={name}&by={by}").json
        assert divided["by"] == by
        assert sum(row["count"] for row in divided["stats"]) == len(values)
    labels = admin_client.get(f"/v1/stats?group=label&by={name}").json["stats"]
    assert {(row["key"], row["by"]) for row in labels} >= {("sandwich", "0"), ("sushi", "0"), ("sushi", "0.9")}


def test_results_are_counted(mixed_results, submit_client, admin_client):
    """All of them for an admin; with the same filters as the list."""
    payload = admin_client.get("/v1/stats?group=label").json
    assert payload["group"] == "label"
    assert {row["key"]: row["count"] for row in payload["stats"]} == {"sushi": 1, "sandwich": 1, None: 2}
    mine = submit_client.get("/v1/stats?group=status").json["stats"]
    assert {row["key"]: row["count"] for row in mine} == {"done": 1, "failed": 1}
    (row,) = submit_client.get("/v1/stats?group=label&label=sushi").json["stats"]
    assert (row["key"], row["by"], row["count"]) == ("sushi", None, 1)
    assert row["confidence"] == mine[0]["confidence"] or mine[1]["confidence"]
    assert [one["by"] for one in submit_client.get("/v1/stats?group=label&by=label&label=sushi").json["stats"]] == [
        "sushi"
    ]
    assert_problem(submit_client.get("/v1/stats?group=owner"), 422, "bad_parameter")


def test_two_jobs_are_compared(db, submit_client, other_client):
    """Images with different labels; a job of another key is not found."""
    runs = []
    for label in ("sushi", "sandwich"):
        runs.append(
            submit_client.post(
                "/v1/jobs", images=[("a", factories.make_image(1)), ("b", factories.make_image(2))]
            ).json["id"]
        )
        first, second = factories.claim_images(db)
        factories.complete_claims(db, [first], label=label)
        factories.complete_claims(db, [second])
    (change,) = submit_client.get(f"/v1/jobs/{runs[0]}/diff/{runs[1]}").json["changes"]
    assert (change["image"], change["a"]["label"], change["b"]["label"]) == ("a", "sushi", "sandwich")
    assert submit_client.get(f"/v1/jobs/{runs[0]}/diff/{runs[0]}").json == {"changes": []}
    assert_problem(submit_client.get(f"/v1/jobs/{runs[0]}/diff/{runs[1]}?cursor=%00"), 422, "bad_parameter")
    theirs = other_client.post("/v1/jobs", images=[("a", factories.make_image())]).json["id"]
    assert_problem(submit_client.get(f"/v1/jobs/{runs[0]}/diff/{theirs}"), 404, "job_not_found")


def test_a_result_has_its_worker_and_environment(db, submit_client):
    """Null without a worker or a known environment; each job has its own."""
    at = factories.create_environment(db, device="NVIDIA H200", precision="bfloat16")
    jobs_ = [factories.create_job(db, submit_client.id, name) for name in "ab"]
    factories.complete_claims(db, factories.claim_images(db, limit=1, worker="host:1:abc"), at)
    factories.complete_claims(db, factories.claim_images(db, worker="host:2:def"))
    refused = factories.new_image("d.jpg", errors.ImageFailed("empty", "Empty."))
    jobs_.append(db.write(factories.insert_job, factories.new_job(submit_client.id), [refused]))
    found = [fetch_all_pages(submit_client, f"/v1/jobs/{id_}/results", "results")[0] for id_ in jobs_]
    here = factories.ENVIRONMENT | {"device": "NVIDIA H200", "precision": "bfloat16"}
    assert [row["environment"] for row in found] == [here, None, None]
    assert [row["worker"] for row in found] == ["host:1:abc", "host:2:def", None]
    again = submit_client.post(f"/v1/results/{found[0]['id']}/verify").json
    assert again["metadata"]["environment"] == here


def test_a_result_is_verified_by_a_job_of_its_own(db, submit_client, other_client, finished_job):
    """With the result in its metadata; images that were never stored, or of other keys, cannot be verified."""
    rows = {row["image"]: row for row in submit_client.get(finished_job["results_url"]).json["results"]}
    response = submit_client.post(f"/v1/results/{rows['a.png']['id']}/verify")
    assert response.status_code == 202, response.text
    assert response.json["metadata"]["verifies"] == rows["a.png"]["id"]
    assert response.json["metadata"]["label"] == "sushi"
    assert [claim.name for claim in factories.claim_images(db)] == ["a.png"]
    assert_problem(submit_client.post(f"/v1/results/{rows['bad.txt']['id']}/verify"), 409, "nothing_to_retry")
    assert_problem(other_client.post(f"/v1/results/{rows['a.png']['id']}/verify"), 404, "result_not_found")
    for id_ in ("x", "999999", "9" * 40, "-1"):
        assert_problem(submit_client.post(f"/v1/results/{id_}/verify"), 404, "result_not_found")
    # A purge that has begun: its rows may be there for a while.
    purged = sa.update(tables.Job.__table__).where(tables.Job.id == finished_job["id"]).values(purged_at=clock.now())
    db.write(lambda c: c.execute(purged))
    assert_problem(submit_client.post(f"/v1/results/{rows['a.png']['id']}/verify"), 404, "result_not_found")
