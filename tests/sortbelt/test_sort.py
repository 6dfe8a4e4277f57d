"""`sortbelt sort`, from a folder to a folder per label."""

import json

import pytest


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.jpg", "b.jpg", "broken.jpg"):
        (root / name).write_bytes(name.encode())
    return root


def placed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_classified_and_sorted(sortbelt, server, photos, tmp_path):
    run = sortbelt("sort", photos, "--into", tmp_path / "out")

    assert run.code == 1
    assert run.out == "sushi\t2\nfailed\t1\n"
    assert placed(tmp_path / "out") == ["failed/broken.jpg", "sushi/a.jpg", "sushi/b.jpg"]


def test_all_well_is_exit_code_0_and_a_rerun_does_only_what_is_new(sortbelt, server, photos, tmp_path):
    (photos / "broken.jpg").unlink()
    assert sortbelt("sort", photos, "--into", tmp_path / "out", "--link").code == 0
    (photos / "c.jpg").write_bytes(b"c")

    again = json.loads(sortbelt("sort", photos, "--into", tmp_path / "out", "--link", "--json").out)

    assert again["outcomes"] == {"already there": 2, "placed": 1}
    assert again["folders"] == {"sushi": 3}
    assert set(server.received.values()) == {1}


def test_a_move_can_be_repeated_even_when_nothing_is_left(sortbelt, photos, tmp_path):
    first = sortbelt("sort", photos, "--into", tmp_path / "out", "--move", "--json")
    again = sortbelt("sort", photos, "--into", tmp_path / "out", "--move", "--json")

    assert json.loads(first.out)["outcomes"] == {"placed": 3}
    assert json.loads(again.out)["outcomes"] == {"already there": 3}
    assert placed(photos) == []


def test_an_existing_job_is_sorted_without_sending_anything(sortbelt, server, photos, tmp_path):
    job = json.loads(sortbelt("enqueue", photos, "--json").out)["job_id"]
    server.received.clear()

    run = sortbelt("sort", photos, "--into", tmp_path / "out", "--job", job, "--min-confidence", "0.8")

    assert placed(tmp_path / "out") == ["failed/broken.jpg", "unsure/a.jpg", "unsure/b.jpg"]
    assert not server.received
    assert run.code == 1
    assert sortbelt("sort", photos, "--into", tmp_path / "out", "--job", "none").code == 2


def test_a_dry_run_sends_nothing_and_touches_nothing(sortbelt, server, photos, tmp_path):
    run = sortbelt("sort", photos, "--into", tmp_path / "out", "--dry-run")

    assert run.err == "There are no results.\n"
    assert not server.jobs
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_placed_is_told(sortbelt, photos, tmp_path):
    (tmp_path / "out" / "sushi").mkdir(parents=True)
    (tmp_path / "out" / "sushi" / "a.jpg").write_bytes(b"mine")

    run = sortbelt("sort", photos, "--into", tmp_path / "out")

    assert run.code == 1
    assert "place taken: a.jpg" in run.err
    assert (tmp_path / "out" / "sushi" / "a.jpg").read_bytes() == b"mine"


def test_a_target_inside_the_folder_is_wrong_usage(sortbelt, photos):
    assert sortbelt("sort", photos, "--into", photos / "out").code == 2
