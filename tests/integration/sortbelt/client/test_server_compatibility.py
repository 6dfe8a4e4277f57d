"""The client says nothing that the real server does not know, since that is refused."""

import inspect

import pytest

from sortbelt import errors
from sortbelt.client import operations, sync_client
from tests.integration.api.conftest import run_api_server
from tests.support import factories

ID = "0190a0a0-0000-7000-8000-000000000000"
TIMES = {"since": "2026-01-31T12:00:00Z", "until": "2026-02-28"}
ORDER = {"model": factories.MODEL, "priority": "bulk", "metadata": {"a": 1}, "expires_in": 60.0}
ORDER |= {"webhook": "https://example.com/hook"}
SURE = {"min_confidence": 0.1, "max_confidence": 0.9}
NAMED = {"label": "a", "error": "empty", "model": "a", "version": "1", "name": "a", "custom_id": "c"}
FILTERS = {"job": ID, "owner": ID, "status": "done", **SURE, **NAMED, **TIMES}
LIMITS = {"expires_in": 60.0, "images_per_minute": 1, "bytes_per_minute": 1, "open_images": 1, "open_bytes": 1}
SAID = {  # each method that asks, with every choice that it has
    "submit": lambda c: c.submit([("a.png", factories.make_image())], custom_ids={"a.png": "c"}, **ORDER),
    "open_job": lambda c: c.open_job(**ORDER),
    "known_blobs": lambda c: c.known_blobs(["0" * 64]),
    "add_images": lambda c: c.add_images(c.open_job().id, [("a.png", b"")], {"a.png": "c"}),
    "add_known": lambda c: c.add_known(c.open_job().id, [("a", "0" * 64)], {"a": "c"}),
    "sources": lambda c: c.sources(),
    "scan": lambda c: c.scan(c.open_job().id, "no", "a", ["*"], ["b"], seal=False),
    **{verb: lambda c, verb=verb: getattr(c, verb)(ID) for verb in ("seal", "cancel", "retry", "job")},
    "watch": lambda c: list(c.watch(ID)),
    "wait": lambda c: c.wait(ID, timeout=0.1),
    "jobs": lambda c: list(c.jobs(status="done", model="a", owner=ID, **TIMES)),
    "results": lambda c: [list(c.results(c.open_job().id, **some)) for some in ({}, {"limit": 7}, {"label": "a"})],
    "search": lambda c: [list(c.search(order=order, limit=7, **FILTERS)) for order in ("newest", "confidence")],
    "export": lambda c: list(c.export("text/csv", order="newest", **FILTERS)),
    "diff": lambda c: list(c.diff(c.open_job().id, c.open_job().id)),
    "label_pairs": lambda c: c.label_pairs(c.open_job().id, c.open_job().id),
    "stats": lambda c: c.stats("label", "model", **FILTERS),
    "verify": lambda c: c.verify("1"),
    "rename": lambda c: c.rename(c.open_job().id, "lunch"),
    "delete_job": lambda c: c.delete_job(ID),
    "delete_image": lambda c: c.delete_image("1"),
    "review_images": lambda c: c.review_images(["1"], "sushi", note="a"),
    "resubmit_images": lambda c: c.resubmit_images(["1"], name="again", model="a", fresh=True, idempotency_key="k"),
    "archive_images": lambda c: list(c.archive_images(["1"])),
    "delete_images": lambda c: c.delete_images(["1"]),
    "image_bytes": lambda c: c.image_bytes("1"),
    "review": lambda c: c.review("1", "sushi", note="a"),
    "withdraw_review": lambda c: c.withdraw_review("1"),
    "reviews": lambda c: list(c.reviews(model="a", version="1", strategy="random", history=True, **TIMES)),
    "review_queue": lambda c: c.review_queue("random", "a@1", 7),
    "review_stats": lambda c: c.review_stats(model="a", version="1", **TIMES),
    "deliveries": lambda c: list(c.deliveries(c.open_job().id, "failed")),
    "purges": lambda c: list(c.purges()),
    "replay": lambda c: c.replay(ID),
    "webhook_secret": lambda c: c.webhook_secret(),
    "rotate_webhook_secret": lambda c: c.rotate_webhook_secret(),
    "keys": lambda c: list(c.keys()),
    "create_key": lambda c: c.create_key("a", "read", **LIMITS),
    "change_key": lambda c: c.change_key(c.create_key("a").id, name="b", **LIMITS),
    "revoke_key": lambda c: c.revoke_key(ID),
    "models": lambda c: list(c.models()),
    "promote_model": lambda c: c.promote_model("a", "1"),
    "rollback_model": lambda c: c.rollback_model("a"),
    "shadow_model": lambda c: c.shadow_model("a", "1", 0.5),
    "compare_models": lambda c: c.compare_models("a@1", "a@2", limit=7),
}


@pytest.fixture(scope="module")
def real_client(tmp_path_factory, redis_url, _sqlite_template):
    """A client of a real server."""
    with (
        run_api_server(tmp_path_factory.mktemp("server"), _sqlite_template, redis_url) as server,
        sync_client.Client(f"http://127.0.0.1:{server.port}", server.key) as made,
    ):
        yield made


def refusal(ask):
    """Return the server's problem, if it rejects the request."""
    try:
        ask()
    except errors.ApiError as refused:
        return str(refused)
    return ""


def test_the_server_knows_whatever_the_client_says(real_client, subtests):
    """Each method with every choice: what is asked about may not be there, but nothing is unknown."""
    for method, ask in SAID.items():
        with subtests.test(method):
            assert " does not know the " not in refusal(lambda ask=ask: ask(real_client))


def test_every_method_is_asked():
    """Each route has an entry above; bundles are added in the tests of models, which need one."""
    own = {name for name, _ in inspect.getmembers(sync_client.Client, inspect.isfunction) if not name.startswith("_")}
    assert own - {"close", "notify", "add_model"} == SAID.keys()


def test_a_client_that_is_newer_than_the_server_gets_an_error(real_client):
    """An unknown route, a known one, and the server's version."""
    with pytest.raises(
        errors.InvalidRequest, match=r"This server \(version [\d.]+\) does not know the parameter 'colour' here.*owner"
    ):
        list(real_client.search(colour="red"))


def test_pages_are_followed_behind_a_path_of_a_reverse_proxy(tmp_path, redis_url, _sqlite_template, monkeypatch):  # noqa: PT019 - the template is a value
    """The links of the server have the path, and so has the URL of the client."""
    monkeypatch.setattr(operations, "PAGE_SIZE", 2)
    with run_api_server(tmp_path, _sqlite_template, redis_url, PUBLIC_URL="http://x.invalid/photos") as server:
        client = sync_client.Client(f"http://127.0.0.1:{server.port}/photos", server.key)
        ids = {client.open_job().id for _ in range(5)}
        assert {job.id for job in client.jobs()} == ids
        client.close()
