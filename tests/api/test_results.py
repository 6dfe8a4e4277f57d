import json

import pytest
import sqlalchemy as sa

from jobs import clock, errors, tables
from jobs.store import jobs, listed, results, work
from tests.api.asking import next_page, problem, walk
from tests.jobs import making


@pytest.fixture
def full(db, me, other):
    """Results of two people: mine a.jpg sushi 0.9, b.jpg undecodable; another's c.jpg sandwich 0.6, d.jpg empty."""
    one = making.job(db, me.id, "a.jpg", "b.jpg")
    two = making.job(db, other.id, "c.jpg")
    a, b, c = making.claim(db)
    fates = [
        making.fate(a),
        work.Fate(b, error_code="undecodable", error_detail="No."),
        making.fate(c, label="sandwich", confidence=0.6),
    ]
    db.write(work.finish, fates, making.MAKER)
    db.write(jobs.create, making.order(other.id), [making.image("d.jpg", errors.BadPicture("empty", "Empty."))])
    return {"one": one, "two": two}


def names(person, query=""):
    return [row["image"] for row in walk(person, f"/v1/results?{query}", "results")]


def test_who_orders_sees_their_own_and_who_looks_and_admins_all(full, me, other, reader, admin):
    """Newest first."""
    assert names(me) == ["b.jpg", "a.jpg"]
    assert names(other) == ["d.jpg", "c.jpg"]
    assert names(reader) == names(admin) == ["d.jpg", "c.jpg", "b.jpg", "a.jpg"]
    for path in (f"/v1/results?owner={me.id}", f"/v1/jobs/{full['one']}/results"):
        assert {row["image"] for row in walk(reader, path, "results")} == {"a.jpg", "b.jpg"}


QUESTIONS = [
    ("label=sushi", "a"),
    ("label=", ""),
    ("status=done", "ca"),
    ("status=failed", "db"),
    ("status=expired", ""),
    ("error=undecodable", "b"),
    ("error=nothing", ""),
    ("min_confidence=0.7", "a"),
    ("max_confidence=0.7", "c"),
    ("min_confidence=0&max_confidence=1", "ca"),
    ("model=sushi-or-sandwich", "dcba"),
    ("model=x", ""),
    ("name=A.J", "a"),
    ("name=.jpg", "dcba"),
    ("name=%25", ""),
    ("since=2026-01-01", "dcba"),
    ("since=2026-01-01T00:00:00Z&until=2999-01-01T00:00:00%2B02:00", "dcba"),
    ("until=2026-01-01", ""),
    ("limit=1", "dcba"),
    ("limit=3&status=done", "ca"),
]


def test_an_admin_asks_by_anything(full, admin, subtests):
    """Each filter, and all pages of it."""
    for query, found in QUESTIONS:
        with subtests.test(query):
            assert [name[0] for name in names(admin, query)] == list(found)


def test_by_job(full, me, admin):
    """One's own; another's are not shown, nor said to exist."""
    assert names(admin, f"job={full['two']}") == ["c.jpg"]
    assert names(me, f"job={full['one']}") == ["b.jpg", "a.jpg"]
    assert names(me, f"job={full['two']}") == []


MALFORMED = [
    "min_confidence=x",
    "min_confidence=-0.1",
    "max_confidence=1.1",
    "min_confidence=nan",
    "max_confidence=inf",
]
MALFORMED += ["since=x", "since=", "until=yesterday", "since=2026-13-01", "since=1", "since=%00", "since=99999-01-01"]
MALFORMED += ["since=0001-01-01T00:00:00%2B23:59", "until=9999-12-31T23:59:59-23:59"]


def test_a_malformed_filter_is_named(full, admin, subtests):
    """422, with the name of the parameter and what it must be."""
    for query in MALFORMED:
        with subtests.test(query):
            assert query.partition("=")[0] in problem(admin.get(f"/v1/results?{query}"), 422, "bad_parameter")


def test_odd_texts_in_filters_find_nothing_or_are_refused(full, admin, subtests):
    """Never a 500, whatever the database thinks of the text."""
    for filter_ in ("job", "label", "status", "error", "model", "name"):
        for value in ("%00", "a%00b", "%ff", "%ed%a0%80", "'", "%25", "x" * 5000, "%F0%9F%8D%A3", "%5c"):
            with subtests.test(filter_, value=value[:9]):
                response = admin.get(f"/v1/results?{filter_}={value}")
                if response.status_code == 200:
                    assert response.json == {"results": []}
                else:
                    problem(response, 422, "bad_parameter")


def test_odd_texts_as_the_status_of_jobs_are_refused(admin, subtests):
    """The list of jobs too."""
    for status in ("%00", "a%00b", "x" * 5000, "%ff"):
        with subtests.test(status[:9]):
            problem(admin.get(f"/v1/jobs?status={status}"), 422, "bad_parameter")


def test_the_least_confident_come_first_page_by_page(full, admin):
    """What has no label is not among them; and the links lead through."""
    for limit in (1, 2, 100):
        assert names(admin, f"order=confidence&limit={limit}") == ["c.jpg", "a.jpg"]


def test_a_page_may_be_empty_and_lead_on(monkeypatch, full, admin):
    """What is rare is looked for a stretch at a time: the links lead to it, and a stream has it all."""
    monkeypatch.setitem(results.page.__kwdefaults__, "look_at", 1)
    monkeypatch.setitem(listed.page.__kwdefaults__, "look_at", 1)
    first = admin.get("/v1/results?name=a.jpg")
    assert first.json == {"results": []}
    assert next_page(first) is not None
    for order in ("newest", "confidence"):
        assert names(admin, f"name=a.jpg&order={order}") == ["a.jpg"]
    stream = admin.get("/v1/results?name=a.jpg&limit=5", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["image"] for line in stream.text.splitlines()] == ["a.jpg"]
    assert [job["id"] for job in walk(admin, "/v1/jobs?status=done", "jobs")] == [full["two"], full["one"]]
    assert walk(admin, "/v1/jobs?status=cancelled", "jobs") == []


def test_an_admin_asks_by_owner_and_version_and_others_see_only_their_own(full, me, other, admin):
    """A filter by owner opens nothing."""
    assert names(admin, f"owner={me.id}") == ["b.jpg", "a.jpg"]
    assert names(me, f"owner={other.id}") == ["b.jpg", "a.jpg"]
    assert names(admin, "version=1") == ["c.jpg", "b.jpg", "a.jpg"]
    assert names(admin, "version=2") == []


def test_results_are_counted(full, me, admin):
    """Everybody's for an admin; with the same filters as the list."""
    told = admin.get("/v1/stats?group=label").json
    assert told["group"] == "label"
    assert {row["key"]: row["count"] for row in told["stats"]} == {"sushi": 1, "sandwich": 1, None: 2}
    mine = me.get("/v1/stats?group=status").json["stats"]
    assert {row["key"]: row["count"] for row in mine} == {"done": 1, "failed": 1}
    assert me.get("/v1/stats?group=label&label=sushi").json["stats"] == [
        {"key": "sushi", "count": 1, "confidence": mine[0]["confidence"] or mine[1]["confidence"]}
    ]
    problem(me.get("/v1/stats?group=owner"), 422, "bad_parameter")


def test_two_jobs_are_compared(db, me, other):
    """What another run sees otherwise; and another's job is not there to be compared with."""
    runs = []
    for label in ("sushi", "sandwich"):
        runs.append(me.post("/v1/jobs", images=[("a", making.picture(1)), ("b", making.picture(2))]).json["id"])
        first, second = making.claim(db)
        making.finish(db, [first], label=label)
        making.finish(db, [second])
    (change,) = me.get(f"/v1/jobs/{runs[0]}/diff/{runs[1]}").json["changes"]
    assert (change["image"], change["a"]["label"], change["b"]["label"]) == ("a", "sushi", "sandwich")
    assert me.get(f"/v1/jobs/{runs[0]}/diff/{runs[0]}").json == {"changes": []}
    problem(me.get(f"/v1/jobs/{runs[0]}/diff/{runs[1]}?cursor=%00"), 422, "bad_parameter")
    theirs = other.post("/v1/jobs", images=[("a", making.picture())]).json["id"]
    problem(me.get(f"/v1/jobs/{runs[0]}/diff/{theirs}"), 404, "job_not_found")


def test_a_result_tells_who_made_it_and_where(db, me):
    """What no worker saw was made nowhere; what nobody noted is not known; each job has its own."""
    at = making.environment(db, device="NVIDIA H200", precision="bfloat16")
    jobs_ = [making.job(db, me.id, name) for name in "ab"]
    making.finish(db, making.claim(db, limit=1, worker="host:1:abc"), at)
    making.finish(db, making.claim(db, worker="host:2:def"))
    refused = making.image("d.jpg", errors.BadPicture("empty", "Empty."))
    jobs_.append(db.write(jobs.create, making.order(me.id), [refused]))
    found = [walk(me, f"/v1/jobs/{id_}/results", "results")[0] for id_ in jobs_]
    here = making.WHERE | {"device": "NVIDIA H200", "precision": "bfloat16"}
    assert [row["environment"] for row in found] == [here, None, None]
    assert [row["worker"] for row in found] == ["host:1:abc", "host:2:def", None]
    again = me.post(f"/v1/results/{found[0]['id']}/verify").json
    assert again["metadata"]["environment"] == here


def test_a_result_is_looked_at_again_alone(db, me, other, done):
    """A job of one that knows what it is to be compared with; what was never stored cannot be, nor another's."""
    rows = {row["image"]: row for row in me.get(done["results_url"]).json["results"]}
    response = me.post(f"/v1/results/{rows['a.png']['id']}/verify")
    assert response.status_code == 202, response.text
    assert response.json["metadata"]["verifies"] == rows["a.png"]["id"]
    assert response.json["metadata"]["label"] == "sushi"
    assert [claim.name for claim in making.claim(db)] == ["a.png"]
    problem(me.post(f"/v1/results/{rows['bad.txt']['id']}/verify"), 409, "nothing_to_retry")
    problem(other.post(f"/v1/results/{rows['a.png']['id']}/verify"), 404, "result_not_found")
    for id_ in ("x", "999999", "9" * 40, "-1"):
        problem(me.post(f"/v1/results/{id_}/verify"), 404, "result_not_found")
    # A purge that has begun: its rows may be there for a while.
    purged = sa.update(tables.Job.__table__).where(tables.Job.id == done["id"]).values(purged_at=clock.now())
    db.write(lambda c: c.execute(purged))
    problem(me.post(f"/v1/results/{rows['a.png']['id']}/verify"), 404, "result_not_found")
