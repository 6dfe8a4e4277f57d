import os

import pytest

from sortbelt import errors, records, sorting


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "photos"
    for name in ("a.jpg", "trip/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def result(image, label="sushi", confidence=0.9):
    status = "failed" if label is None else "done"
    return records.Result.read(
        {"image": image, "job_id": "j", "status": status, "label": label, "confidence": confidence}
    )


def placed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("how", list(sorting.How))
def test_a_picture_gets_into_the_folder_of_its_label_and_a_second_time_nothing_happens(root, tmp_path, how):
    sorter = sorting.Sorter(str(root), str(tmp_path / "out"), how)
    results = [result("a.jpg"), result("trip/b.jpg", "sandwich")]

    assert [sorter.place(r) for r in results] == [sorting.Outcome.PLACED] * 2
    assert [sorter.place(r) for r in results] == [sorting.Outcome.ALREADY] * 2
    assert placed(tmp_path / "out") == ["sandwich/trip/b.jpg", "sushi/a.jpg"]
    assert placed(root) == ([] if how is sorting.How.MOVE else ["a.jpg", "trip/b.jpg"])
    linked = how is sorting.How.LINK
    assert not linked or (tmp_path / "out" / "sushi" / "a.jpg").samefile(root / "a.jpg")


def test_less_sure_labels_and_failures_have_folders_of_their_own(root, tmp_path):
    sorter = sorting.Sorter(str(root), str(tmp_path / "out"), min_confidence=0.8)

    sorter.place(result("a.jpg", confidence=0.79))
    sorter.place(result("trip/b.jpg", None, None))

    assert placed(tmp_path / "out") == ["failed/trip/b.jpg", "unsure/a.jpg"]


@pytest.mark.parametrize("how", list(sorting.How))
def test_another_file_of_that_name_keeps_it(root, tmp_path, how):
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"yours")

    assert sorting.Sorter(str(root), str(tmp_path / "out"), how).place(result("a.jpg")) is sorting.Outcome.TAKEN
    assert there.read_bytes() == b"yours"
    assert (root / "a.jpg").exists()


def test_even_a_link_that_leads_nowhere_keeps_its_name(root, tmp_path):
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    there.symlink_to(tmp_path / "elsewhere")

    assert sorting.Sorter(str(root), str(tmp_path / "out")).place(result("a.jpg")) is sorting.Outcome.TAKEN
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "trip/../../secret.jpg", ""])
def test_a_name_that_leads_out_of_the_folder_is_left_alone(root, tmp_path, name):
    (tmp_path / "secret.jpg").write_bytes(b"secret")

    outcome = sorting.Sorter(str(root), str(tmp_path / "out")).place(result(name))

    assert outcome is sorting.Outcome.UNSAFE
    assert not (tmp_path / "out").exists()


def test_links_are_not_followed(root, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.jpg").write_bytes(b"secret")
    (root / "link.jpg").symlink_to(tmp_path / "secret" / "a.jpg")
    (root / "dir").symlink_to(tmp_path / "secret")
    sorter = sorting.Sorter(str(root), str(tmp_path / "out"))

    assert sorter.place(result("link.jpg")) is sorting.Outcome.MISSING
    assert sorter.place(result("dir/a.jpg")) is sorting.Outcome.MISSING
    assert sorter.place(result("gone.jpg")) is sorting.Outcome.MISSING


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
    assert sorting.safe(label) == name


def test_names_that_had_to_be_escaped_are_found_again(root, tmp_path):
    (root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"1")
    (root / "two\nlines.jpg").write_bytes(b"2")
    (root / "back\\slash.jpg").write_bytes(b"3")
    sorter = sorting.Sorter(str(root), str(tmp_path / "out"))

    for name in ("caf\\udce9.jpg", "two\\nlines.jpg", "back\\slash.jpg"):
        assert sorter.place(result(name)) is sorting.Outcome.PLACED


def test_a_folder_inside_the_sorted_one_is_refused(root):
    with pytest.raises(errors.BadInput, match="is inside"):
        sorting.Sorter(str(root), str(root / "out"))


def test_a_move_that_was_killed_between_its_two_steps_is_completed(root, tmp_path):
    there = tmp_path / "out" / "sushi" / "a.jpg"
    there.parent.mkdir(parents=True)
    os.link(root / "a.jpg", there)

    outcome = sorting.Sorter(str(root), str(tmp_path / "out"), sorting.How.MOVE).place(result("a.jpg"))

    assert outcome is sorting.Outcome.ALREADY
    assert not (root / "a.jpg").exists()


def test_what_a_killed_copy_left_is_written_over(root, tmp_path, monkeypatch):
    sorter = sorting.Sorter(str(root), str(tmp_path / "out"))
    monkeypatch.setattr("shutil.copystat", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sorter.place(result("a.jpg"))
    monkeypatch.undo()

    assert sorter.place(result("a.jpg")) is sorting.Outcome.PLACED
    assert placed(tmp_path / "out") == ["sushi/a.jpg"]


def test_a_dry_run_touches_nothing(root, tmp_path):
    sorter = sorting.Sorter(str(root), str(tmp_path / "out"), dry_run=True)

    assert sorter.place(result("a.jpg")) is sorting.Outcome.PLACED
    assert not (tmp_path / "out").exists()
