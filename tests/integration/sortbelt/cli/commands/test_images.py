"""`sortbelt images`, and the methods of both clients behind it, against a real server."""

import asyncio
import itertools
import json
import zipfile
from types import SimpleNamespace

import click.testing
import pytest

from core.db import database
from sortbelt import errors
from sortbelt.cli import main
from sortbelt.cli.commands import images
from sortbelt.client import operations
from sortbelt.client.async_client import AsyncClient
from sortbelt.client.sync_client import Client
from tests.integration.api.conftest import run_api_server
from tests.support import factories

seeds = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory, redis_url, _sqlite_template):
    """A running API without workers: its URL and key, a client, and its database."""
    folder = tmp_path_factory.mktemp("server")
    with run_api_server(folder, _sqlite_template, redis_url) as running:
        url = f"http://127.0.0.1:{running.port}"
        db = database.Database(f"sqlite:///{folder}/sortbelt.db")
        with Client(url, running.key) as client:
            yield SimpleNamespace(url=url, key=running.key, db=db, client=client)
        db.close()


@pytest.fixture
def api(server):
    """The server, and a finished job: three labels, an image that timed out, and one whose header is invalid."""
    uploads = [(f"{number}.png", factories.make_image(next(seeds))) for number in range(4)]
    job = server.client.submit([*uploads, ("bad.txt", b"not an image")])
    claimed = factories.claim_images(server.db)
    factories.complete_claims(server.db, claimed[:3])
    factories.complete_claims(server.db, claimed[3:], label=None, error_code="timed_out", error_detail="Too slow.")
    yield SimpleNamespace(**vars(server), job=job.id)
    server.client.delete_job(job.id)


@pytest.fixture
def run(api, monkeypatch):
    """Return a function that runs the command against the server, without a terminal."""
    monkeypatch.setenv("SORTBELT_URL", api.url)
    monkeypatch.setenv("SORTBELT_KEY", api.key)

    def run_command(*arguments, answer=None):
        result = click.testing.CliRunner().invoke(main.cli, ["images", *arguments], input=answer)
        return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)

    return run_command


def test_images_are_counted_by_label_before_anything_is_done(api, run):
    """With the filters of `sortbelt results`; without a filter or a job it is wrong usage, without a match exit 1."""
    label = next(iter(api.client.results(api.job, status="done"))).label
    for command in (["review", "--as", "sushi"], ["resubmit"], ["archive", "--out", "x.zip"], ["delete", "--yes"]):
        counted = run(*command, api.job, "--dry-run", "--json")
        assert (counted.code, json.loads(counted.out)) == (0, {"images": 5, "labels": {label: 3, "failed": 2}})
        assert run(*command, "--limit", "3").code == 2
        assert run(*command, api.job, "--name", "none").code == 1
    assert run("delete", api.job, "--error", "timed_out", "--dry-run").out == "failed\t1\n"
    assert len(list(api.client.results(api.job))) == 5


def test_images_are_reviewed_by_one_command(api, run, monkeypatch):
    """A label or a verdict without one; images that have no label are named, some of them, and the exit code is 1."""
    assert run("review", api.job, "--status", "done", "--as", "sushi").code == 0
    assert {result.review.label for result in api.client.results(api.job, status="done")} == {"sushi"}
    one = run("review", api.job, "--reviewed", "--limit", "1", "--as", "none_of_these", "--note", "soup")
    assert (one.code, one.err) == (0, "1 image reviewed.\n")
    assert sorted(result.review.verdict for result in api.client.results(api.job, status="done")) == [
        "label",
        "label",
        "none_of_these",
    ]
    mixed = run("review", api.job, "--as", "sandwich", "--json")
    assert (mixed.code, json.loads(mixed.out)["reviewed"], len(json.loads(mixed.out)["failed"])) == (1, 3, 2)
    monkeypatch.setattr(images, "MAX_FAULTS", 1)
    assert "1 more left as they are" in run("review", api.job, "--status", "failed", "--as", "sushi").err


def test_images_are_classified_again_by_one_command(api, run):
    """All of them, also those with a label; an unknown model is rejected; images without bytes are left out."""
    done = run("resubmit", api.job, "--job-name", "Again", "--json")
    (job,) = json.loads(done.out)["jobs"]
    assert (done.code, job["name"], job["counts"]["queued"]) == (0, "Again", 4)
    assert "1 unsupported_format" in done.err
    assert run("resubmit", api.job, "--with", "none").code == 2
    api.client.delete_job(job["id"])


def test_images_are_downloaded_by_one_command(api, run, tmp_path, monkeypatch):
    """As a ZIP file; images without bytes are counted apart; too many are wrong usage, and write nothing."""
    path = tmp_path / "images.zip"
    assert run("archive", api.job, "--status", "done", "--out", str(path)).code == 0
    with zipfile.ZipFile(path) as archive:
        assert sorted(name.rpartition("/")[2] for name in archive.namelist()) == ["0.png", "1.png", "2.png"]
    partial = run("archive", api.job, "--out", str(path), "--json")
    assert (partial.code, json.loads(partial.out)) == (1, {"images": 4, "left_out": 1, "file": str(path)})
    assert f"1 image left out: left-out.txt in {path} has the names and the reasons." in partial.err
    monkeypatch.setattr(operations, "MAX_SELECTED", 2)
    assert run("archive", api.job, "--status", "done", "--out", str(tmp_path / "more.zip")).code == 2
    assert not (tmp_path / "more.zip").exists()


def test_images_are_deleted_by_one_command(api, run, monkeypatch):
    """After a question with their number; in several requests; with a receipt for each."""
    monkeypatch.setattr(operations, "MAX_SELECTED", 2)
    refused = run("delete", api.job, "--status", "done", answer="n\n")
    assert (refused.code, len(list(api.client.results(api.job)))) == (1, 5)
    assert "Delete 3 images (3 " in refused.err
    done = run("delete", api.job, "--status", "done", answer="y\n")
    assert (done.code, len(done.out.splitlines()), len(list(api.client.results(api.job)))) == (0, 3, 2)
    assert len(json.loads(run("delete", api.job, "--yes", "--json").out)["deleted"]) == 2


def test_both_clients_act_on_images(api):
    """The same idempotency key returns the same job; those that cannot be changed are returned with the reason."""
    ids = [result.id for result in api.client.results(api.job, status="done")]
    first = api.client.resubmit_images(ids, fresh=True, idempotency_key="once")

    async def act():
        async with AsyncClient(api.url, api.key) as client:
            repeated = await client.resubmit_images(ids, fresh=True, idempotency_key="once")
            with pytest.raises(errors.InvalidRequest, match="dempotency"):
                await client.resubmit_images(ids[:1], fresh=True, idempotency_key="once")
            reviewed = await client.review_images([*ids, "999"], verdict="bad_image")
            return repeated, reviewed, await client.delete_images([*ids, "999"])

    repeated, reviewed, deleted = asyncio.run(act())
    assert repeated.id == first.id
    api.client.delete_job(first.id)
    assert (reviewed["reviewed"], [fault["image_id"] for fault in reviewed["failed"]]) == (3, ["999"])
    assert ([one["image_id"] for one in deleted["deleted"]], len(deleted["failed"])) == (sorted(ids), 1)
