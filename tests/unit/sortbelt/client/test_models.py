import json

import pytest

from sortbelt import errors

BUNDLE = {
    "weights.safetensors": b"\0\1weights",
    "model.json": b'{"name": "shapes", "version": "2"}',
    "CARD.md": b"# Card",
}
LIVE = {"name": "shapes", "version": "1", "stage": "live", "labels": ["a", "b"], "built_in": True}
LIVE |= {"served_by": ["w1", "w2"], "refused_by": [], "created_at": "2026-01-31T12:00:00Z"}
BAD = {"name": "shapes", "version": "2", "stage": "shadow", "share": 0.25, "labels": list("abcdefg")}
BAD |= {"served_by": [], "refused_by": [{"worker": "w1", "reason": "The self-test fails."}], "created_by": "boss"}


@pytest.fixture
def bundle_dir(tmp_path):
    """The folder of a bundle."""
    for name, data in BUNDLE.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "notes.txt").touch()
    return tmp_path


def disagreements(count):
    """Return a comparison of versions that disagree."""
    a, b = {"label": "a", "confidence": 0.9}, {"label": "b", "confidence": 0.6}
    return [{"image": f"{number}.jpg", "job_id": "j", "a": a, "b": b} for number in range(count)]


def comparison(count):
    """Versions that agree on one image, and on so many not."""
    matrix = [{"a": "a", "b": "a", "count": 1}, {"a": "a", "b": "b", "count": count}]
    sure = {"a": 0.91, "b": 0.6}
    found = {"compared": count + 1, "agreeing": 1, "agreement": 1 / (count + 1), "mean_confidence": sure}
    return found | {"matrix": matrix, "disagreements": disagreements(count)}


def test_a_bundle_is_sent_with_its_three_files_and_nothing_else(client, server, bundle_dir):
    added = client.add_model(bundle_dir)

    assert (added.title, added.stage) == ("shapes@2", "candidate")
    assert server.models[0]["files"] == sorted(BUNDLE)


@pytest.mark.parametrize("name", BUNDLE)
def test_a_folder_that_is_no_bundle_is_not_sent(client, server, bundle_dir, name):
    (bundle_dir / name).unlink()

    with pytest.raises(errors.BadInput, match=f"is not a bundle: {name} is missing"):
        client.add_model(bundle_dir)
    assert server.requests == []


def test_versions_are_promoted_taken_back_and_made_shadows(client):
    assert (client.promote_model("shapes", "2").version, client.promote_model("shapes", "2").stage) == ("2", "promote")
    assert client.rollback_model("shapes").stage == "rollback"
    assert client.shadow_model("shapes", "2", 0.5).share == 0.5


def test_a_rollback_whose_answer_was_lost_is_not_said_twice(client, server):
    client.models()
    server.faults = ["drop"]

    with pytest.raises(errors.Unreachable):
        client.rollback_model("shapes")
    assert sum(path.endswith("/rollback") for _, path, _ in server.requests) == 1


def test_versions_are_records(client, server):
    server.models = [LIVE, BAD]

    live, bad = client.models()

    assert (live.title, live.served_by, live.labels) == ("shapes@1", ("w1", "w2"), ("a", "b"))
    assert (bad.share, dict(bad.refused_by)) == (0.25, {"w1": "The self-test fails."})
    assert live.created_at.year == 2026


def test_a_comparison_brings_as_many_disagreements_as_are_asked_for(client, server, monkeypatch):
    monkeypatch.setattr("sortbelt.client.operations.PAGE_SIZE", 10)
    server.comparison = comparison(35)

    few, some, all_ = (client.compare_models("shapes@1", "shapes@2", limit=limit) for limit in (3, 25, 1000))

    assert [len(each.disagreements) for each in (few, some, all_)] == [3, 25, 35]
    assert [found.image for found in all_.disagreements] == [f"{number}.jpg" for number in range(35)]
    assert few.matrix == {("a", "a"): 1, ("a", "b"): 35}
    assert (few.compared, few.agreeing, few.mean_confidence["a"]) == (36, 1, 0.91)
    assert (few.disagreements[0].label_a, few.disagreements[0].confidence_b) == ("a", 0.6)


def test_the_list_shows_stages_and_who_refuses_what(run_cli, server):
    server.models = [LIVE, BAD]

    run = run_cli("models", "list")

    first, second = run.out.splitlines()
    assert first.startswith("shapes@1\tlive\t\ta, b\t2 workers\t2026-01-31T12:00:00+00:00\tthe workers")
    assert second.startswith("shapes@2\tshadow\t0.25\ta, b, c, d, e …\t")
    assert "shapes@2 is rejected by worker w1: The self-test fails." in run.err
    assert json.loads(run_cli("models", "list", "--json").out)["models"] == [LIVE, BAD]


def test_models_are_added_promoted_and_taken_back_by_command(run_cli, server, bundle_dir):
    assert run_cli("models", "add", bundle_dir).out.startswith("shapes@2\tcandidate")
    promoted = run_cli("models", "promote", "shapes@2")
    assert (promoted.code, promoted.out.split("\t")[0]) == (0, "shapes@2")
    assert "within seconds" in promoted.err
    assert json.loads(run_cli("models", "rollback", "shapes", "--json").out)["stage"] == "rollback"


def test_a_rollback_without_a_name_is_of_the_only_live_model(run_cli, server):
    server.models = [LIVE, BAD]
    assert json.loads(run_cli("models", "rollback", "--json").out)["name"] == "shapes"
    server.models = [LIVE, {**LIVE, "name": "other"}]
    run = run_cli("models", "rollback")
    assert run.code == 2
    assert "Name the model; live models: other, shapes." in run.err


def test_a_shadow_is_switched_on_and_off(run_cli):
    assert json.loads(run_cli("models", "shadow", "shapes@2", "--share", "0.1", "--json").out)["share"] == 0.1
    assert json.loads(run_cli("models", "shadow", "shapes@2", "--off", "--json").out)["share"] == 0.0
    for words in ([], ["--share", "0.1", "--off"], ["--share", "2"]):
        assert run_cli("models", "shadow", "shapes@2", *words).code == 2


@pytest.mark.parametrize("title", ["shapes", "@2", "shapes@", "shapes@1@2"])
def test_what_is_no_version_is_wrong_usage(run_cli, server, title):
    run = run_cli("models", "promote", title)

    assert run.code == 2
    assert "write NAME@VERSION" in run.err
    assert server.requests == []


def test_a_comparison_is_shown_as_tables_or_json(run_cli, server):
    server.comparison = comparison(3)

    run = run_cli("models", "compare", "shapes@1", "shapes@2", "--limit", "2")

    assert "They agree on 1 of 4 images (25.0%); mean confidence: shapes@1 0.9100" in run.err
    assert run.out.splitlines() == ["a\ta\t1", "a\tb\t3", *(f"{n}.jpg\tj\ta\t0.9000\tb\t0.6000" for n in range(2))]
    assert json.loads(run_cli("models", "compare", "shapes@1", "shapes@2", "--json").out)["compared"] == 4


def test_versions_that_share_no_image_say_how_to_get_some(run_cli, server):
    server.comparison = comparison(0) | {"compared": 0, "agreement": None, "matrix": []}

    run = run_cli("models", "compare", "shapes@1", "shapes@2")

    assert (run.code, run.out) == (0, "")
    assert "sortbelt models shadow shapes@2 --share 0.1" in run.err
