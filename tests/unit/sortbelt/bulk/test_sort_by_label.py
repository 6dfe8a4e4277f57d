import os

import pytest

from sortbelt import errors
from sortbelt.bulk import sort_by_label
from sortbelt.client import responses


@pytest.fixture
def image_dir(tmp_path):
    folder = tmp_path / "photos"
    for name in ("a.jpg", "trip/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def result(image, label="sushi", confidence=0.9, familiarity=None):
    status = "failed" if label is None else "done"
    raw = {"image": image, "job_id": "j", "status": status, "label": label, "confidence": confidence}
    return responses.Result.from_json(raw | {"familiarity": familiarity})


def placed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("how", list(sort_by_label.TransferMode))
def test_an_image_gets_into_the_folder_of_its_label_and_a_second_time_nothing_happens(image_dir, tmp_path, how):
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), how)
    results = [result("a.jpg"), result("trip/b.jpg", "sandwich")]

    assert [sorter.transfer(r) for r in results] == [sort_by_label.Outcome.PLACED] * 2
    assert [sorter.transfer(r) for r in results] == [sort_by_label.Outcome.ALREADY_PLACED] * 2
    assert placed(tmp_path / "out") == ["sandwich/trip/b.jpg", "sushi/a.jpg"]
    assert placed(image_dir) == ([] if how is sort_by_label.TransferMode.MOVE else ["a.jpg", "trip/b.jpg"])
    linked = how is sort_by_label.TransferMode.LINK
    assert not linked or (tmp_path / "out" / "sushi" / "a.jpg").samefile(image_dir / "a.jpg")


def test_images_in_archives_are_reported_as_such(image_dir, tmp_path):
    """They are not missing: the archive has them, and has to be unpacked."""
    (image_dir / "old.zip").write_bytes(b"PK")
    (image_dir / "folder.zip").mkdir()
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"))

    assert sorter.transfer(result("old.zip/in/c.jpg")) == sort_by_label.Outcome.IN_ARCHIVE
    assert sorter.transfer(result("folder.zip/c.jpg")) == sort_by_label.Outcome.MISSING
    with pytest.raises(errors.BadInput, match=r"is an archive: `sort` takes no images out of archives\. Unpack it"):
        sort_by_label.Sorter(str(image_dir / "old.zip"), str(tmp_path / "out"))


def test_less_sure_labels_and_failures_have_folders_of_their_own(image_dir, tmp_path):
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), min_confidence=0.8)

    sorter.transfer(result("a.jpg", confidence=0.79))
    sorter.transfer(result("trip/b.jpg", None, None))

    assert placed(tmp_path / "out") == ["failed/trip/b.jpg", "unsure/a.jpg"]


@pytest.mark.parametrize(
    ("familiarity", "folder"), [(0.0, "other"), (0.019, "other"), (0.02, "out/unsure"), (None, "out/unsure")]
)
def test_unfamiliar_images_have_a_folder_of_their_own(image_dir, tmp_path, familiarity, folder):
    """An image below the limit goes there whatever its confidence; one of unknown familiarity does not."""
    options = {"unfamiliar": str(tmp_path / "other"), "min_confidence": 0.95}
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), **options)

    sorter.transfer(result("trip/b.jpg", familiarity=familiarity))

    assert placed(tmp_path / folder) == ["trip/b.jpg"]


def test_the_folder_for_unfamiliar_images_is_not_inside_the_sorted_one(image_dir, tmp_path):
    """Else the next run would find its images as new ones."""
    with pytest.raises(errors.BadInput, match="is inside"):
        sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), unfamiliar=str(image_dir / "other"))


@pytest.mark.parametrize("how", list(sort_by_label.TransferMode))
def test_another_file_of_that_name_keeps_it(image_dir, tmp_path, how):
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"yours")

    assert (
        sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), how).transfer(result("a.jpg"))
        is sort_by_label.Outcome.NAME_TAKEN
    )
    assert there.read_bytes() == b"yours"
    assert (image_dir / "a.jpg").exists()


def test_even_a_link_that_leads_nowhere_keeps_its_name(image_dir, tmp_path):
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    there.symlink_to(tmp_path / "elsewhere")

    assert (
        sort_by_label.Sorter(str(image_dir), str(tmp_path / "out")).transfer(result("a.jpg"))
        is sort_by_label.Outcome.NAME_TAKEN
    )
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "trip/../../secret.jpg", ""])
def test_a_name_that_leads_out_of_the_folder_is_left_alone(image_dir, tmp_path, name):
    (tmp_path / "secret.jpg").write_bytes(b"secret")

    outcome = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out")).transfer(result(name))

    assert outcome is sort_by_label.Outcome.UNSAFE_NAME
    assert not (tmp_path / "out").exists()


def test_links_are_not_followed(image_dir, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.jpg").write_bytes(b"secret")
    (image_dir / "link.jpg").symlink_to(tmp_path / "secret" / "a.jpg")
    (image_dir / "dir").symlink_to(tmp_path / "secret")
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"))

    assert sorter.transfer(result("link.jpg")) is sort_by_label.Outcome.MISSING
    assert sorter.transfer(result("dir/a.jpg")) is sort_by_label.Outcome.MISSING
    assert sorter.transfer(result("gone.jpg")) is sort_by_label.Outcome.MISSING


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("sushi roll", "sushi roll"),
        ("../../etc", "_.._etc"),
        ("a/b", "a_b"),
        ("..", "_"),
        ("", "_"),
        ("unsure", "unsure_"),
        ("failed", "failed_"),
        ("x\x1b[2J", "x_[2J"),
        ("con:", "con_"),
    ],
)
def test_a_label_is_a_safe_name_of_a_folder(label, name):
    assert sort_by_label.safe_folder_name(label) == name


def test_names_that_had_to_be_escaped_are_found_again(image_dir, tmp_path):
    (image_dir / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"1")
    (image_dir / "two\nlines.jpg").write_bytes(b"2")
    (image_dir / "back\\slash.jpg").write_bytes(b"3")
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"))

    for name in ("caf\\udce9.jpg", "two\\nlines.jpg", "back\\slash.jpg"):
        assert sorter.transfer(result(name)) is sort_by_label.Outcome.PLACED


def test_a_folder_inside_the_sorted_one_is_refused(image_dir):
    with pytest.raises(errors.BadInput, match="is inside"):
        sort_by_label.Sorter(str(image_dir), str(image_dir / "out"))


def test_a_move_that_was_killed_between_its_two_steps_is_completed(image_dir, tmp_path):
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    os.link(image_dir / "a.jpg", there)

    outcome = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), sort_by_label.TransferMode.MOVE).transfer(
        result("a.jpg")
    )

    assert outcome is sort_by_label.Outcome.ALREADY_PLACED
    assert not (image_dir / "a.jpg").exists()


def test_an_image_that_is_in_its_folder_already_is_not_deleted(tmp_path):
    """A folder of sorted images is sorted again, with a better model."""
    image = tmp_path / "out" / "unsure" / "a.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"the only copy")
    sorter = sort_by_label.Sorter(
        str(image.parent), str(tmp_path / "out"), sort_by_label.TransferMode.MOVE, min_confidence=0.8
    )

    assert sorter.transfer(result("a.jpg", confidence=0.7)) is sort_by_label.Outcome.ALREADY_PLACED
    assert image.read_bytes() == b"the only copy"


def test_a_move_deletes_no_image_to_which_a_link_leads(image_dir, tmp_path):
    """A folder of links for each label, which has been made before."""
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    there.symlink_to(image_dir / "a.jpg")

    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), sort_by_label.TransferMode.MOVE)

    assert sorter.transfer(result("a.jpg")) is sort_by_label.Outcome.NAME_TAKEN
    assert (image_dir / "a.jpg").read_bytes() == b"a.jpg"


def test_a_move_deletes_no_image_because_of_size_and_time(image_dir, tmp_path):
    """Archives may give all files one time."""
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"x.jpg")
    for path in (there, image_dir / "a.jpg"):
        os.utime(path, (1, 1))

    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), sort_by_label.TransferMode.MOVE)

    assert sorter.transfer(result("a.jpg")) is sort_by_label.Outcome.NAME_TAKEN
    assert (image_dir / "a.jpg").read_bytes() == b"a.jpg"


@pytest.mark.parametrize("how", list(sort_by_label.TransferMode))
def test_an_image_that_cannot_be_transferred_is_one_outcome_and_no_end(image_dir, tmp_path, how):
    """Each byte that is not UTF-8 has six characters in the escaped name."""
    long = "x" * 10 + "\\udce9" * 45
    (image_dir / f"{'x' * 10}{chr(0xDCE9) * 45}").write_bytes(b"image")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sandwich").write_bytes(b"a file")
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), how)

    assert sorter.transfer(result(long)) is sort_by_label.Outcome.INVALID_NAME
    assert sorter.transfer(result("a.jpg", "sandwich")) is sort_by_label.Outcome.NAME_TAKEN
    assert sorter.transfer(result("trip/b.jpg")) is sort_by_label.Outcome.PLACED


def test_what_a_killed_copy_left_is_written_over(image_dir, tmp_path, monkeypatch):
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"))
    monkeypatch.setattr("shutil.copystat", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sorter.transfer(result("a.jpg"))
    monkeypatch.undo()

    assert sorter.transfer(result("a.jpg")) is sort_by_label.Outcome.PLACED
    assert placed(tmp_path / "out") == ["sushi/a.jpg"]


def test_a_dry_run_touches_nothing(image_dir, tmp_path):
    sorter = sort_by_label.Sorter(str(image_dir), str(tmp_path / "out"), dry_run=True)

    assert sorter.transfer(result("a.jpg")) is sort_by_label.Outcome.PLACED
    assert not (tmp_path / "out").exists()
