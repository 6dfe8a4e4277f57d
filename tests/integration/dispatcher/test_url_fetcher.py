"""Images submitted by URL: fetched by the dispatcher, from allowed destinations only."""

import dataclasses
import errno
import http.server
import ipaddress
import os
import socket
import threading
from pathlib import Path

import httpcore
import pytest
import sqlalchemy as sa

from core import errors, settings
from core.broker import wakeup
from core.db import tables
from core.db.queries import api_keys, jobs, quotas, retries, url_fetches, webhook_deliveries
from core.intake import service
from core.storage import local
from dispatcher import http_client, url_fetcher
from tests.support import factories, servers, waiting

FETCHES = tables.UrlFetch.__table__
LOCAL = "127.0.0.0/8"


class ImageHost(http.server.ThreadingHTTPServer):
    """A host of images: `responses` has (status, headers, body) by path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.responses, self.requests = {}, []
        self.slow_path, self.may_answer = None, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(servers.QuietHandler):
    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        if self.path == self.server.slow_path:
            self.server.may_answer.wait(60)
        status, headers, body = self.server.responses.get(self.path, (404, {}, b""))
        self.answer(status, body, headers)


@pytest.fixture
def image_host():
    with servers.serving(ImageHost()) as host:
        host.responses["/a.png"] = 200, {}, factories.make_image(1)
        yield host
        host.may_answer.set()


@pytest.fixture
def config(database_url, tmp_path):
    return settings.Settings(
        database_url=database_url,
        blob_store=str(tmp_path / "blobs"),
        webhook_allow=LOCAL,
        fetch_urls=True,
        max_image_bytes=50_000,
    )


@pytest.fixture
def store(config):
    return local.LocalBlobStore(Path(config.blob_store))


@pytest.fixture
def submit(db, owner, config, store):
    """Submits images by URL, by name; the id of the job."""

    def make(urls, key=owner, **fields):
        intake = service.SubmissionService(config, db, store, wakeup.WakeupSender(config.redis_url))
        submitted = [service.UrlReference(name, url) for name, url in urls.items()]
        return str(factories.submit_job(intake, factories.new_job(key, **fields), submitted).id)

    return make


@pytest.fixture
def fetch(db, config):
    """Rounds of a fetcher in this process, until nothing is due; `pass_time` lets everything be due."""
    made = url_fetcher.UrlFetcher(config, db)

    def go(*, pass_time=False):
        if pass_time:
            let_all_be_due(db)
        while made.poll():
            made.finish()

    return go


def let_all_be_due(db):
    past = {name: sa.text("'2020-01-01 00:00:00'") for name in ("next_attempt_at", "lease_until")}
    db.write(lambda c: c.execute(sa.update(FETCHES).where(FETCHES.c.status == "pending").values(past)))


def failures(db, job_id):
    """Error code and detail by name."""
    image, result = factories.IMAGES, factories.RESULTS
    query = sa.select(image.c.name, result.c.error_code, result.c.error_detail)
    query = query.join(result, result.c.image_id == image.c.id).where(image.c.job_id == job_id)
    return {name: (code, detail) for name, code, detail in db.read(lambda c: c.execute(query).all()) if code}


def test_an_image_is_fetched_and_then_claimed(db, submit, fetch, image_host, store):
    """Until then it is queued, and no worker takes it; the job has its bytes in the end."""
    job_id = submit({"lunch.png": f"{image_host.url}/a.png"})
    assert factories.job_counts(db, job_id) == {"queued": 1}
    assert factories.claim_images(db) == []
    fetch()
    (claim,) = factories.claim_images(db)
    assert store.get(claim.sha256) == factories.make_image(1)
    assert (claim.name, claim.source, claim.attempt) == ("lunch.png", None, 1)
    assert factories.get_job(db, job_id).bytes == len(factories.make_image(1))
    factories.complete_claims(db, [claim])
    assert factories.get_job(db, job_id).status == "done"
    assert "Cookie" not in image_host.requests[0][1]
    assert "Authorization" not in image_host.requests[0][1]


def test_fetched_bytes_are_charged_to_the_key(db, owner, submit, fetch, image_host):
    """Those of an image that is too large too; the next submission waits until they are paid for."""
    key_quotas = quotas.Quotas(bytes_per_minute=1_000)
    db.write(api_keys.update, owner, {"bytes_per_minute": 1_000})
    image_host.responses["/large.png"] = 200, {}, bytes(60_000)
    submit({"a.png": f"{image_host.url}/a.png", "large.png": f"{image_host.url}/large.png"}, key_quotas=key_quotas)
    fetch()
    assert -60_000 < db.read(quotas.get_usage, owner, key_quotas).remaining.bytes < -49_000
    with pytest.raises(errors.RateLimited, match="none of its 1,000 bytes of images per minute"):
        submit({"b.png": f"{image_host.url}/a.png"}, key_quotas=key_quotas)


def test_the_same_submission_again_is_the_same_job(db, submit, fetch, image_host):
    """Under its idempotency key; with another URL it is another submission."""
    urls = {"a": f"{image_host.url}/a.png"}
    job_id = submit(urls, idempotency_key="k")
    fetch()
    assert submit(urls, idempotency_key="k") == job_id
    with pytest.raises(errors.IdempotencyMismatch):
        submit({"a": f"{image_host.url}/b.png"}, idempotency_key="k")
    fetch()
    assert len(image_host.requests) == 1


@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        ((404, {}, b""), "fetch_failed", "responded with 404"),
        ((302, {"Location": "http://169.254.169.254/"}, b""), "fetch_failed", "redirect"),
        ((200, {}, b"<html>"), "unsupported_format", "web page"),
        ((200, {}, b""), "empty", "empty"),
        ((200, {}, b"x" * 60_000), "too_large", "50,000 bytes"),
    ],
)
def test_what_cannot_be_fetched_fails_by_itself(db, submit, fetch, image_host, response, code, words):
    """With the reason; the others of the job go on, and no attempt is repeated that would fail again."""
    image_host.responses["/bad"] = response
    job_id = submit({"bad": f"{image_host.url}/bad", "good": f"{image_host.url}/a.png"})
    fetch()
    fetch(pass_time=True)
    found_code, detail = failures(db, job_id)["bad"]
    assert found_code == code
    assert words in detail
    assert [path for path, _ in image_host.requests].count("/bad") == 1
    factories.complete_claims(db, factories.claim_images(db))
    assert factories.job_counts(db, job_id) == {"done": 1, "failed": 1}


def test_a_host_that_is_away_is_tried_again_and_at_last_given_up(db, submit, fetch, image_host):
    """It may come back; after some attempts the image fails, and the job ends."""
    image_host.responses["/late"] = 503, {}, b""
    image_host.responses["/never"] = 500, {}, b""
    job_id = submit({"late": f"{image_host.url}/late", "never": f"{image_host.url}/never"})
    fetch()
    assert factories.job_counts(db, job_id) == {"queued": 2}
    image_host.responses["/late"] = 200, {}, factories.make_image(2)
    for _ in range(url_fetches.MAX_ATTEMPTS):
        fetch(pass_time=True)
    factories.complete_claims(db, factories.claim_images(db))
    assert factories.job_counts(db, job_id) == {"done": 1, "failed": 1}
    assert "500" in failures(db, job_id)["never"][1]
    assert [path for path, _ in image_host.requests].count("/never") == url_fetches.MAX_ATTEMPTS


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "https://10.0.0.1/a",
        "https://[::1]/a",
        "ftp://x/a",
        "https://u:p@x/a",
    ],
)
def test_other_destinations_are_refused_at_once(submit, url):
    """By the same rules as webhooks."""
    with pytest.raises(errors.BadParameter, match="No image may be fetched from"):
        submit({"a": url})


def test_a_name_that_leads_inside_is_refused_when_it_is_resolved(db, submit, fetch, monkeypatch):
    """The address is judged that is connected to."""
    monkeypatch.setattr(
        http_client.url_policy, "resolve", lambda *_: [http_client.url_policy.ipaddress.ip_address("10.0.0.1")]
    )
    job_id = submit({"a": "https://photos.example/a.png"})
    fetch()
    assert failures(db, job_id)["a"][0] == "fetch_failed"


def test_a_name_server_that_is_away_fails_no_image_at_once(db, submit, fetch, monkeypatch):
    """It may be starting; a name that does not exist is final."""

    def resolve(host, _port):
        raise socket.gaierror(socket.EAI_AGAIN if host == "photos.example" else socket.EAI_NONAME, "no address")

    monkeypatch.setattr(http_client.url_policy, "resolve", resolve)
    job_id = submit({"waits": "https://photos.example/a.png", "fails": "https://nowhere.example/a.png"})
    fetch()
    assert set(failures(db, job_id)) == {"fails"}
    assert factories.job_counts(db, job_id) == {"queued": 1, "failed": 1}


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch):
    """A packet filter may drop all that is sent to the first one."""
    timeouts = []

    class SilentFirstAddress(httpcore.SyncBackend):
        def connect_tcp(self, host, _port, timeout, *_):
            timeouts.append(timeout)
            if host == "192.0.2.1":
                raise httpcore.ConnectTimeout
            return httpcore.NetworkStream()

    addresses = [ipaddress.ip_address(f"192.0.2.{number}") for number in (1, 2)]
    monkeypatch.setattr(http_client.url_policy, "resolve", lambda *_: addresses)
    policy = http_client.url_policy.UrlPolicy.parse("192.0.2.0/24")
    backend = http_client.GuardedBackend(policy, is_https=True, timeout_seconds=30)
    backend._backend = SilentFirstAddress()
    backend.connect_tcp("photos.example", 443)
    assert timeouts == [pytest.approx(15, abs=3), pytest.approx(30, abs=6)]


def test_urls_are_refused_by_default(db, owner, config, store):
    """An operator decides whether the server calls others."""
    off = dataclasses.replace(
        service.SubmissionService(
            config.model_copy(update={"fetch_urls": False}), db, store, wakeup.WakeupSender("redis://127.0.0.1:1")
        )
    )
    with pytest.raises(errors.BadParameter, match="SORTBELT_FETCH_URLS"):
        factories.submit_job(off, factories.new_job(owner), [service.UrlReference("a", "https://photos.example/a.png")])


def test_a_cancelled_image_is_not_fetched(db, owner, submit, fetch, image_host):
    """Nor one whose deadline has passed; a fetch that comes too late changes nothing."""
    job_id = submit({"a": f"{image_host.url}/a.png", "b": f"{image_host.url}/a.png"})
    (late, _) = db.write(url_fetches.claim, limit=2, max_per_owner=2)
    db.write(jobs.cancel, job_id, owner)
    db.write(url_fetches.store, late, factories.new_image("a"))
    fetch(pass_time=True)
    assert image_host.requests == []
    assert factories.job_counts(db, job_id) == {"cancelled": 2}
    assert factories.get_job(db, job_id).bytes == 0


def test_a_fetcher_that_has_lost_its_lease_writes_nothing(db, submit, fetch, image_host):
    """Another has fetched the image meanwhile."""
    job_id = submit({"a": f"{image_host.url}/a.png"})
    (late,) = db.write(url_fetches.claim, limit=1, max_per_owner=1)
    fetch(pass_time=True)
    db.write(url_fetches.fail, late, "fetch_failed", "Too late.")
    db.write(url_fetches.store, late, factories.new_image("other"))
    assert factories.job_counts(db, job_id) == {"queued": 1}
    assert factories.get_job(db, job_id).bytes == len(factories.make_image(1))


def test_a_retry_fetches_again(db, owner, submit, fetch, image_host):
    """An image that was not fetched in the first job is fetched in the second; the others are not."""
    job_id = submit({"a": f"{image_host.url}/a.png", "b": f"{image_host.url}/b.png"})
    fetch()
    factories.complete_claims(db, factories.claim_images(db), label=None, error_code="undecodable", error_detail="X.")
    image_host.responses["/b.png"] = 200, {}, factories.make_image(3)
    retry_id = db.write(retries.create_retry, job_id, owner)
    fetch()
    assert {claim.name for claim in factories.claim_images(db)} == {"a", "b"}
    assert [path for path, _ in image_host.requests].count("/a.png") == 1
    assert factories.get_job(db, retry_id).total == 2


def test_a_host_that_is_slow_for_one_key_does_not_delay_another(db, submit, config, image_host):
    """All threads that the first key may have wait for it, and more of its fetches have been due for longer."""
    image_host.slow_path = "/slow"
    image_host.responses["/slow"] = 200, {}, factories.make_image(2)
    slow = submit({f"{number}": f"{image_host.url}/slow" for number in range(20)})
    fetcher = url_fetcher.UrlFetcher(config, db)
    assert fetcher.poll() == url_fetcher.CONCURRENCY_PER_OWNER
    assert fetcher.poll() == 0
    quick = submit({"a": f"{image_host.url}/a.png"}, factories.create_key(db, "quick"))
    assert fetcher.poll() == 1
    claimed = waiting.wait_until(lambda: factories.claim_images(db), 60)
    assert [claim.job_id for claim in claimed] == [quick]
    image_host.may_answer.set()
    fetcher.finish()
    while fetcher.poll():
        fetcher.finish()
    assert [claim.job_id for claim in factories.claim_images(db)] == [slow] * 20


def test_a_dispatcher_lost_during_the_last_attempt_fails_the_image(db, owner, submit, fetch, image_host):
    """Attempts are counted when they begin, so that nothing is tried for ever; the job and its webhook follow."""
    hook = {"webhook_url": f"{image_host.url}/hook", "public_base_url": "https://sortbelt.example/"}
    job_id = submit({"deadly": f"{image_host.url}/a.png"}, **hook)
    for attempt in range(1, url_fetches.MAX_ATTEMPTS + 1):
        (lost,) = db.write(url_fetches.claim, limit=9, max_per_owner=9)
        assert lost.attempts == attempt
        let_all_be_due(db)
    fetch()
    fetch(pass_time=True)
    assert image_host.requests == []
    assert failures(db, job_id) == {"deadly": ("fetch_failed", url_fetcher.DISPATCHER_LOST)}
    assert factories.job_counts(db, job_id) == {"failed": 1}
    assert factories.get_job(db, job_id).status == "failed"
    results = sa.select(sa.func.count()).select_from(factories.RESULTS)
    assert db.read(lambda c: c.execute(results).scalar()) == 1
    assert [row.job_id for row in db.read(webhook_deliveries.list_page, owner, limit=9, filters={})] == [job_id]


@pytest.fixture
def full_disk(monkeypatch):
    """A disk of a thousand blocks, of which few are free."""
    block, size, free = 4096, 1000, 20
    state = os.statvfs_result((block, block, size, free, free, size, size, size, 0, 255))
    monkeypatch.setattr(local.LocalBlobStore, "disk", lambda _: state)


@pytest.mark.usefixtures("full_disk")
def test_the_rest_of_a_disk_is_not_for_fetched_images_of_the_key_that_fills_it(
    db, owner, submit, fetch, image_host, store
):
    """Its fetches are retried later, and those of others go on; in the end, the image fails with the reason."""
    factories.create_job(db, owner, *map(str, range(30)))
    image_host.responses["/b.png"] = 200, {}, factories.make_image(2)
    full = submit({"full": f"{image_host.url}/a.png"})
    little = submit({"little": f"{image_host.url}/b.png"}, factories.create_key(db, "quiet"))
    fetch()
    fetch()
    assert [path for path, _ in image_host.requests].count("/a.png") == 1
    (claim,) = [claim for claim in factories.claim_images(db) if claim.job_id == little]
    assert [*store.root.glob("[0-9a-f][0-9a-f]/*")] == [store.path(claim.sha256)]
    assert factories.job_counts(db, full) == {"queued": 1}
    for _ in range(url_fetches.MAX_ATTEMPTS):
        fetch(pass_time=True)
    ((code, detail),) = failures(db, full).values()
    assert code == "fetch_failed"
    assert "disk for images is nearly full" in detail
    assert [path for path, _ in image_host.requests].count("/a.png") == url_fetches.MAX_ATTEMPTS


@pytest.mark.usefixtures("full_disk")
def test_an_image_is_stored_once_there_is_space(db, owner, submit, fetch, image_host, monkeypatch):
    """As if nothing had been."""
    factories.create_job(db, owner, *map(str, range(30)))
    factories.create_job(db, factories.create_key(db, "quiet"), "a")
    job_id = submit({"a": f"{image_host.url}/a.png"})
    fetch()
    assert factories.get_job(db, job_id).bytes == 0
    monkeypatch.setattr(local.LocalBlobStore, "disk", lambda _: None)
    fetch(pass_time=True)
    assert factories.get_job(db, job_id).bytes == len(factories.make_image(1))


def test_while_nothing_can_be_stored_fetches_wait(db, submit, fetch, image_host, monkeypatch):
    """However often, since it is not the fault of the URL; but not at once."""
    job_id = submit({"a": f"{image_host.url}/a.png"})

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(local, "_write_file", fail)
        for count in range(1, url_fetches.MAX_ATTEMPTS + 3):
            fetch(pass_time=True)
            fetch()
            assert len(image_host.requests) == count
    assert not db.read(url_fetches.has_due)
    assert factories.job_counts(db, job_id) == {"queued": 1}
    fetch(pass_time=True)
    assert [claim.job_id for claim in factories.claim_images(db)] == [job_id]
