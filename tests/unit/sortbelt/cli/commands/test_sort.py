"""`sortbelt sort`, from a folder to a folder per label."""

import json

import pytest


@pytest.fixture
def image_dir(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.jpg", "b.jpg", "broken.jpg"):
        (root / name).write_bytes(name.encode())
    return root


def placed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_classified_and_sorted(run_cli, server, image_dir, tmp_path):
    run = run_cli("sort", image_dir, "--into", tmp_path / "out")

    assert run.code == 1
    assert run.out == "sushi\t2\nfailed\t1\n"
    assert placed(tmp_path / "out") == ["failed/broken.jpg", "sushi/a.jpg", "sushi/b.jpg"]


def test_all_well_is_exit_code_0_and_a_rerun_does_only_what_is_new(run_cli, server, image_dir, tmp_path):
    (image_dir / "broken.jpg").unlink()
    assert run_cli("sort", image_dir, "--into", tmp_path / "out", "--link").code == 0
    (image_dir / "c.jpg").write_bytes(b"c")

    again = json.loads(run_cli("sort", image_dir, "--into", tmp_path / "out", "--link", "--json").out)

    assert again["outcomes"] == {"already there": 2, "placed": 1}
    assert again["folders"] == {"sushi": 3}
    assert set(server.upload_counts.values()) == {1}


def test_a_move_can_be_repeated_even_when_nothing_is_left(run_cli, image_dir, tmp_path):
    first = run_cli("sort", image_dir, "--into", tmp_path / "out", "--move", "--json")
    again = run_cli("sort", image_dir, "--into", tmp_path / "out", "--move", "--json")

    assert json.loads(first.out)["outcomes"] == {"placed": 3}
    assert json.loads(again.out)["outcomes"] == {"already there": 3}
    assert placed(image_dir) == []


def test_an_existing_job_is_sorted_without_sending_anything(run_cli, server, image_dir, tmp_path):
    job = json.loads(run_cli("enqueue", image_dir, "--json").out)["job_id"]
    server.upload_counts.clear()

    run = run_cli("sort", image_dir, "--into", tmp_path / "out", "--job", job, "--min-confidence", "0.8")

    assert placed(tmp_path / "out") == ["failed/broken.jpg", "unsure/a.jpg", "unsure/b.jpg"]
    assert not server.upload_counts
    assert run.code == 1
    assert run_cli("sort", image_dir, "--into", tmp_path / "out", "--job", "none").code == 2


@pytest.mark.parametrize(("familiarity", "folder"), [(0.01, "other"), (0.03, "out/sushi")])
def test_images_of_something_else_go_to_a_folder_of_their_own(
    run_cli, server, image_dir, tmp_path, familiarity, folder
):
    """Below the default limit of familiarity, an image does not go to the folder of its label."""
    server.familiarity = familiarity
    run = run_cli("sort", image_dir, "--into", tmp_path / "out", "--unfamiliar", tmp_path / "other")

    assert placed(tmp_path / folder) == ["a.jpg", "b.jpg"]
    assert "no familiarity" not in run.err


def test_images_of_unknown_familiarity_are_sorted_by_label_and_counted(run_cli, image_dir, tmp_path):
    """A model without reference photos is named; a limit without a folder is wrong usage."""
    run = run_cli("sort", image_dir, "--into", tmp_path / "out", "--unfamiliar", tmp_path / "other")

    assert "2 images have no familiarity" in run.err
    assert not (tmp_path / "other").exists()
    assert run_cli("sort", image_dir, "--into", tmp_path / "out", "--min-familiarity", "0.1").code == 2


def test_a_dry_run_sends_nothing_and_touches_nothing(run_cli, server, image_dir, tmp_path):
    run = run_cli("sort", image_dir, "--into", tmp_path / "out", "--dry-run")

    assert run.err == "There are no results yet: --dry-run classifies no images.\n"
    assert not server.jobs
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_placed_is_reported(run_cli, image_dir, tmp_path):
    (tmp_path / "out" / "sushi").mkdir(parents=True)
    (tmp_path / "out" / "sushi" / "a.jpg").write_bytes(b"mine")

    run = run_cli("sort", image_dir, "--into", tmp_path / "out")

    assert run.code == 1
    assert "place taken: a.jpg" in run.err
    assert (tmp_path / "out" / "sushi" / "a.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("modes", [["--copy", "--move"], ["--move", "--link"], ["--copy", "--link", "--move"]])
def test_two_modes_are_wrong_usage(run_cli, server, image_dir, tmp_path, modes):
    """The last one would count, and files be moved away that were to be copied."""
    run = run_cli("sort", image_dir, "--into", tmp_path / "out", *modes)

    assert (run.code, len(server.jobs)) == (2, 0)
    assert "Give one of --copy, --link and --move." in run.err
    assert placed(image_dir) == ["a.jpg", "b.jpg", "broken.jpg"]


def test_the_folder_must_exist_for_the_results_of_a_job_too(run_cli, server, image_dir, tmp_path):
    """Else each of its images would be reported as missing."""
    run_cli("enqueue", image_dir)

    run = run_cli("sort", tmp_path / "mistyped", "--into", tmp_path / "out", "--job", next(iter(server.jobs)))

    assert run.code == 2
    assert "mistyped does not exist: check its name." in run.err


def test_what_is_not_sent_is_named(run_cli, server, image_dir, tmp_path):
    """An unreadable image and files that may be images are not in any folder: the exit code says so."""
    (image_dir / "broken.jpg").unlink()
    (image_dir / "c.zip").write_bytes(b"damaged")
    (image_dir / "d.cr2").write_bytes(b"raw")

    for options in ([], ["--json"]):
        run = run_cli("sort", image_dir, "--into", tmp_path / "out", *options)
        assert run.code == 1
        assert "not sent: c.zip: c.zip cannot be read as an archive" in run.err
        assert "Left out: d.cr2 (unsupported RAW photo (CR2))." in run.err
    assert placed(tmp_path / "out") == ["sushi/a.jpg", "sushi/b.jpg"]


def test_a_target_inside_the_folder_is_wrong_usage(run_cli, image_dir):
    assert run_cli("sort", image_dir, "--into", image_dir / "out").code == 2


def test_images_of_a_job_that_was_deleted_are_counted_as_missing(run_cli, server, image_dir, tmp_path):
    """Those that are still in the folder: others were moved before."""
    (image_dir / "broken.jpg").unlink()
    job_id = json.loads(run_cli("enqueue", image_dir, "--json").out)["job_id"]
    (image_dir / "c.jpg").write_bytes(b"c")
    assert run_cli("enqueue", image_dir).code == 0
    run_cli("delete", job_id, "--yes")
    (image_dir / "a.jpg").unlink()

    run = run_cli("sort", image_dir, "--into", tmp_path / "out")

    assert placed(tmp_path / "out") == ["sushi/c.jpg"]
    assert run.code == 1
    assert f"Job {job_id} is not on the server any more, which leaves out 1 of the folder's images" in run.err
    assert run_cli("sort", image_dir, "--into", tmp_path / "out").code == 0
    assert placed(tmp_path / "out") == ["sushi/b.jpg", "sushi/c.jpg"]


def test_a_job_that_has_not_ended_is_no_success(run_cli, server, image_dir, tmp_path):
    (image_dir / "broken.jpg").unlink()
    job_id = json.loads(run_cli("enqueue", image_dir, "--json").out)["job_id"]
    server.polls_until_done = 10_000
    run = run_cli("sort", image_dir, "--into", tmp_path / "out", "--job", job_id)
    assert run.code == 1
    assert f"Job {job_id} has not ended" in run.err
    assert f"`sortbelt wait {job_id}`" in run.err
    assert run_cli("sort", image_dir, "--into", tmp_path / "out", "--job", job_id, "--model", "other").code == 2
