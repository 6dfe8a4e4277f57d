"""Small submissions to the real server: suspended while they are written, and finished together."""

import concurrent.futures

import httpx
import pytest

from tests.support import factories

CALLERS = 16


@pytest.fixture
def client(server):
    """A client of the real server."""
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=60) as http_client:
        http_client.get("/v1/jobs").raise_for_status()  # its key is cached from now on
        yield http_client


def submit(client, number, **headers):
    """Submit one image as the raw body, in a job of a name of its own."""
    headers = {"Content-Type": "image/png", "X-Request-ID": f"request-{number}", **headers}
    return client.post(
        "/v1/jobs", params={"job_name": f"job {number}"}, content=factories.make_image(number), headers=headers
    )


def test_each_of_many_callers_gets_its_own_job(client):
    """Written in few groups, and not mixed up."""
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        responses = list(pool.map(lambda number: submit(client, number), range(4 * CALLERS)))
    for number, response in enumerate(responses):
        assert response.status_code == 202, response.text
        job = response.json()
        assert (job["name"], job["counts"]["total"]) == (f"job {number}", 1)
        assert response.headers["Location"] == job["status_url"]
        assert response.headers["X-Request-ID"] == f"request-{number}"
    assert len({response.json()["id"] for response in responses}) == 4 * CALLERS


def test_an_error_of_the_writer_is_the_problem_of_its_request_only(client):
    """Callers under one idempotency key: those that send what the first sent get its job, the others a 422."""
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        futures = [pool.submit(submit, client, 1000 + number % 2, **{"Idempotency-Key": "k"}) for number in range(8)]
        others = list(pool.map(lambda number: submit(client, number), range(2000, 2008)))
    assert {response.status_code for response in others} == {202}
    responses = [future.result() for future in futures]
    accepted = [response for response in responses if response.status_code == 202]
    rejected = [response for response in responses if response.status_code == 422]
    assert (len(accepted), len(rejected)) == (4, 4)
    assert len({response.json()["id"] for response in accepted}) == 1
    for response in rejected:
        problem = response.json()
        assert (problem["code"], problem["request_id"]) == ("idempotency_mismatch", response.headers["X-Request-ID"])


def test_an_invalid_image_is_rejected_before_it_is_written(client):
    """As the raw body: no job."""
    response = client.post("/v1/jobs", content=b"no image", headers={"Content-Type": "image/png"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_format")
