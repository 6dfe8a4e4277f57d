"""The whole way from a folder per class to answers."""

import shutil

import pytest
import torch

from model import bundle as bundles
from model import evaluate, manifest, predict, train, verify

QUICK = ["--size", "24", "--epochs", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    """Training chooses for its whole process; the tests after it get torch back as it was."""
    yield
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(mode=False)


def test_three_classes_go_the_whole_way(shapes, tmp_path, capsys):
    out, notes = tmp_path / "shapes", tmp_path / "notes.md"
    notes.write_text("## Weaknesses\n\nOnly drawings.\n")
    picture = str(shapes / "circle" / "00.png")

    assert train.main([str(shapes), "--out", str(out), "--folds", "2", "--notes", str(notes), *QUICK]) == 0

    about = manifest.read(out)
    assert (about.name, about.version) == ("shapes", "1")
    assert about.labels == ("circle", "square", "stripes")
    assert about.metrics["cross_validation"]["count"] == 60
    assert about.recipe["epochs"] == 2
    assert about.libraries["torch"]
    assert (out / "CARD.md").read_text().endswith("Only drawings.\n")
    assert verify.main([str(out)]) == 0
    assert evaluate.main([str(out), str(shapes)]) == 0
    assert predict.main([str(out), picture]) == 0
    capsys.readouterr()


def test_the_same_seed_gives_the_same_bundle(shapes, tmp_path, capsys):
    digests = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert train.main([str(shapes), "--out", str(tmp_path / name), "--seed", seed, *QUICK]) == 0
        digests.append(bundles.load(tmp_path / name).digest)

    assert digests[0] == digests[1] != digests[2]
    assert digests[0] in capsys.readouterr().out


def test_unreadable_pictures_and_progress_are_told_on_stderr(shapes, tmp_path, capsys):
    folder = shutil.copytree(shapes, tmp_path / "set")
    (folder / "circle" / "text.jpg").write_text("no picture")

    assert train.main([str(folder), "--out", str(tmp_path / "b"), *QUICK]) == 0

    told = capsys.readouterr()
    assert "text.jpg: unsupported_format" in told.err
    assert "read 60 pictures" in told.err
    assert "epochs/s" in told.err
    assert len(told.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{missing}", "--out", "{out}"], "no folder"),
        (["{shapes}", "--out", "{out}", "--network", "nonsense"], "no network"),
        (["{shapes}", "--out", "{out}", "--size", "8"], "at least 22"),
        (["{shapes}", "--out", "{out}", "--folds", "99"], "--folds"),
        (["{shapes}", "--out", "{out}", "--epochs", "0"], "at least 1"),
        (["{shapes}", "--out", "{out}", "--name", "No Such Name!"], "name"),
        (["{shapes}", "--extra", "{missing}", "--out", "{out}"], "no folder"),
        (["{shapes}"], "--out"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(shapes, tmp_path, arguments, told, capsys):
    places = {"shapes": shapes, "missing": tmp_path / "missing", "out": tmp_path / "out"}

    with pytest.raises(SystemExit) as stop:
        train.main([argument.format(**places) for argument in arguments] + ["--threads", "1"])

    assert stop.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_training_exits_with_one(shapes, tmp_path, capsys):
    assert train.main([str(shapes), "--out", str(tmp_path / "b"), "--learning-rate", "inf", *QUICK]) == 1

    assert "smaller --learning-rate" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
