import dataclasses
import datetime as dt

import pytest

import sortbelt
import sortbelt as package
from sortbelt import errors
from sortbelt.client import operations
from sortbelt.client.sync_client import Client
from tests.support import fake_api


def test_images_go_in_and_results_come_out(client, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")

    job = client.submit([tmp_path / "a.jpg", ("broken", b"2")], metadata={"trip": 7}, wait=True)
    results = {result.image: result for result in client.results(job.id)}

    assert (job.status, job.counts.done, job.counts.failed, job.metadata) == ("done", 1, 1, {"trip": 7})
    assert job.ended
    assert not job.all_well
    assert (results["a.jpg"].label, results["a.jpg"].confidence) == ("sushi", 0.75)
    assert results["a.jpg"].model.name == "fake"
    assert results["broken"].label is None
    assert results["broken"].error.code == "undecodable"


def test_a_submission_whose_answer_was_lost_makes_one_job(client, server):
    server.faults = [(502, {"X": "lost"})]
    client.submit([("a", b"1")])
    (first,) = server.jobs
    server.requests.clear()

    real, server.jobs[first]["lost"] = server.as_json, True
    drops = iter([True])

    def answer_once_lost(job):
        if next(drops, False):
            raise ConnectionError("lost on the way")
        return real(job)

    server.as_json = answer_once_lost
    server.handle_error = lambda *_: None
    client.submit([("b", b"2")])

    keys = {headers["Idempotency-Key"] for _, _, headers in server.requests}
    assert len(server.requests) == 2
    assert len(keys) == 1
    assert len(server.jobs) == 2


def test_many_images_travel_in_several_requests_and_are_one_job(client, server):
    job = client.submit((str(n), b"1") for n in range(100))

    assert job.sealed
    assert job.counts.total == 100
    assert len(server.jobs) == 1


def test_a_submission_that_breaks_off_names_its_job(client, server):
    """Of several requests: the job is open, and has what was sent."""
    server.faults = [None, 413]
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit((str(n), b"1") for n in range(100))
    (job_id,) = server.jobs
    assert caught.value.__notes__ == [f"What was sent is in the open job {job_id}: `sortbelt cancel {job_id}` ends it."]


def test_nothing_to_submit_is_an_error(client):
    with pytest.raises(errors.BadInput, match="at least one"):
        client.submit([])


def test_results_are_followed_from_page_to_page_but_never_to_another_host(client, server):
    server.max_page_size = 3
    job = client.submit([(str(n), b"1") for n in range(10)])

    assert len(list(client.results(job.id))) == 10


def test_waiting_ends_when_its_time_is_over(client, server):
    server.polls_until_done = 10_000
    job = client.submit([("a", b"1")])

    with pytest.raises(errors.WaitTimeout, match=job.id):
        client.wait(job.id, timeout=0.3)


def test_an_unknown_job_is_not_found_with_a_code(client):
    with pytest.raises(errors.NotFound) as caught:
        client.job("../../v1/keys")

    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("job_not_found", 404, "req-1")


def test_a_sealed_job_takes_no_more(client):
    job = client.seal(client.open_job().id)

    with pytest.raises(errors.Conflict):
        client.add_images(job.id, [])


def test_results_can_be_found_among_all_jobs(client):
    client.submit([("a", b"1"), ("broken", b"1")])
    client.submit([("b", b"1")])

    assert {r.image for r in client.search(label="sushi")} == {"a", "b"}
    assert {r.image for r in client.search(status="failed")} == {"broken"}


def test_keys_are_made_listed_and_revoked(client):
    key = client.create_key("camera", "read")

    assert key.secret == "sb_1_secret1"
    assert "secret" not in repr(key)
    assert client.revoke_key(key.id).revoked_at == dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    (listed,) = client.keys()
    assert (listed.name, listed.role, listed.secret) == ("camera", "read", None)


def test_records_are_frozen(client):
    job = client.open_job()

    with pytest.raises(dataclasses.FrozenInstanceError):
        job.status = "done"


def test_a_wrong_key_is_refused(server):
    with Client(server.url, "sb_wrong") as client, pytest.raises(errors.AuthenticationError):
        client.open_job()


def test_the_key_is_in_no_repr(client):
    assert fake_api.KEY not in repr(client)


def test_the_package_offers_its_public_names():
    for name in package.__all__:
        assert getattr(package, name)
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # noqa: B018 - the access is what is tested


def test_a_job_knows_its_client(client):
    job = client.submit([("a", b"1"), ("broken", b"2")])

    assert job.wait().ended
    assert [r.image for r in job.results()] == ["a", "broken"]
    assert job.refresh() == job.wait()
    assert job.cancel().status == "cancelled"
    assert "client" not in repr(job)


def test_results_of_all_jobs_print_themselves(client):
    """The first of them, a line each, with control characters escaped; one image needs no list."""
    client.submit(b"1", name="lunch")
    job = client.submit([("a\x1b[2J", b"1"), ("broken", b"2")], wait=True)
    assert [one.name for one in client.jobs()] == [None, "lunch"]
    lines = str(client.results(label="sushi")).splitlines()
    assert lines == ["Results: 2", "image: sushi 0.7500", "a\\x1b[2J: sushi 0.7500"]
    assert str(job.results()).splitlines()[-1] == "broken: failed (undecodable)"
    assert client.stats()[0]["key"] == "sushi"


def test_lists_print_themselves_with_their_first_rows(client):
    """Also in an interactive session, where an error does not raise; completion knows what there is."""
    for number in range(12):
        client.submit([("a", b"1")], name=f"trip {number}\x1b[2J", wait=True)
    lines = repr(client.jobs()).splitlines()
    assert lines[0] == "Jobs: the first 10"
    assert "trip 11\\x1b[2J, done, 1 images" in lines[1]
    assert next(client.jobs()).name.startswith("trip 11")
    assert repr(client.stats()).splitlines() == ["key    count", "sushi  12"]
    assert str(client.jobs(name="none")) == "Jobs: none"
    assert repr(client.results("no-such-job")).startswith("<Results of job no-such-job: ")
    assert {"Client", "Result", "SortbeltError"} <= set(dir(sortbelt))


def test_results_can_be_looked_at_again(client):
    results = client.submit([("a", b"1")], wait=True).results()

    assert [r.image for r in results] == [r.image for r in results] == ["a"]


def test_a_notebook_shows_jobs_and_results_without_obeying_their_names(client):
    job = client.submit([("<script>a", b"1"), *((str(n), b"1") for n in range(12))], wait=True)

    assert f"Job {job.id}: done" in job._repr_html_()
    assert "<script>" not in job.results()._repr_html_()
    assert "&lt;script&gt;a" in job.results()._repr_html_()
    assert job.results()._repr_html_().count("<tr>") == 11


def test_what_only_a_newer_server_can_do_is_an_error_with_a_code(client, server):
    server.is_legacy = True
    job = client.submit([("a", b"1")], wait=True)

    for ask in (lambda: client.stats("label"), lambda: client.verify("7")):
        with pytest.raises(errors.NotFound) as caught:
            ask()
        assert caught.value.code == "not_found"
    assert job.all_well


def test_identifiers_travel_with_their_images(client, server):
    """Each with the request that has its image, by bytes or by reference; one for an unknown image is an error."""
    files = [(f"{n}.jpg", b"%d" % n) for n in range(40)]
    ids = {"0.jpg": "first", "39.jpg": "last"}
    asked = []
    add = server.add_images
    server.add_images = lambda job, some: (asked.append(len(some)), add(job, some))
    assert client.submit(files, custom_ids=ids).counts.total == 40
    assert asked == [0, 32, 8]
    with pytest.raises(errors.BadInput, match="not the name of an image"):
        client.submit(files, custom_ids={"x": "y"})
    steps = operations.add_images("job", files[32:], ids)
    body = b"".join(next(steps)()).decode()
    assert '{"39.jpg": "last"}' in body
    assert "first" not in body
    images = operations.add_known("job", [("0.jpg", "aa"), ("1.jpg", "bb")], ids).options["json"]["images"]
    assert [image.get("custom_id") for image in images] == ["first", None]
