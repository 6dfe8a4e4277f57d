"""The whole way from a folder per class to answers."""

import json
import resource
import shutil

import numpy as np
import pytest
import safetensors.torch

from model import bundle as bundles
from model import data, evaluate, manifest, networks, predict, selftest, train, verify

QUICK = ["--size", "24", "--epochs", "2", "--threads", "1"]


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
    capsys.readouterr()
    assert evaluate.main([str(out), str(shapes), "--report", str(tmp_path / "report"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["digest"] == about.digest
    assert predict.main([str(out), picture, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["results"][0]["scores"]) == {"circle", "square", "stripes"}
    assert {path.name for path in (tmp_path / "shapes-log").iterdir()} == {"curves.csv", "curves.png"}


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v3_small"])
def test_networks_of_torchvision_go_the_whole_way_from_weights_of_other_classes(network, shapes, tmp_path, capsys):
    out, weights = tmp_path / "shapes", tmp_path / "w.safetensors"
    started = networks.build(network, classes=7, height=32, width=32)
    safetensors.torch.save_file(started.state_dict(), weights)
    options = ["--network", network, "--size", "32", "--epochs", "2", "--threads", "1", "--weights", str(weights)]

    assert train.main([str(shapes), "--out", str(out), *options]) == 0

    about = manifest.read(out)
    assert (about.network.name, about.network.classes) == (network, 3)
    assert about.preprocess.mean == (0.485, 0.456, 0.406)
    assert "w.safetensors, SHA-256" in about.recipe["weights"]
    assert verify.main([str(out)]) == 0
    assert predict.main([str(out), *(str(path) for path in sorted(shapes.rglob("*.png"))[:3])]) == 0
    capsys.readouterr()
    ready = selftest.opened(out, "cpu")
    photos = data.read([shapes], about.preprocess)
    alone = np.concatenate([ready.classify(photos.take(slice(n, n + 1))) for n in range(4)])
    np.testing.assert_allclose(ready.classify(photos.take(slice(None)))[:4], alone, atol=1e-5)


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
        (["{shapes}", "--out", "{out}", "--name", "No Such Name!"], "name"),
        (["{shapes}", "--extra", "{missing}", "--out", "{out}"], "no folder"),
        (["{shapes}", "--out", "{out}", "--set", "epoch=3"], "no option epoch"),
        (["{shapes}", "--out", "{out}", "--folds", "2", "--fold-epochs", "1", "--set", "early=true"], "--fold-epochs"),
        (["{shapes}", "--out", "{out}", "--weights", "{missing}"], "cannot be read as safetensors"),
        (["{shapes}", "--out", "{out}", "--weights", "pretrained"], "no pre-trained weights for cookpad-cnn"),
        (["{shapes}", "--out", "{out}", "--recipe", "{missing}"], "cannot be read"),
        (["{shapes}", "--out", "{out}", "--notes", "{missing}"], "cannot be read"),
        (["{shapes}", "--out", "{out}", "--device", "tpu"], "no device"),
        (["{shapes}", "--out", "{shapes}"], "is not a bundle"),
        (["{shapes}/circle/00.png", "--out", "{out}"], "is a file"),
        (["{shapes}", "--extra", "{shapes}/circle", "--out", "{out}"], "lacks circle"),
        (["{shapes}", "--out", "{out}", "--set", "sizes=[[0.5, 16]]"], "it takes 24 x 24 only"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(shapes, tmp_path, arguments, told, capsys):
    places = {"shapes": shapes, "missing": tmp_path / "missing", "out": tmp_path / "out"}

    code = train.main([*QUICK, *[argument.format(**places) for argument in arguments]])

    assert code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["{shapes}"], ["{shapes}", "--out", "o", "--epochs", "0"]])
def test_wrong_usage_is_told_with_the_usage(shapes, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([argument.format(shapes=shapes) for argument in arguments])

    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_diverged_training_exits_with_one(shapes, tmp_path, capsys):
    assert train.main([str(shapes), "--out", str(tmp_path / "b"), "--learning-rate", "inf", *QUICK]) == 1

    assert "smaller --learning-rate" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_lost(shapes, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code = train.main([str(shapes), "--out", str(tmp_path / "b"), "--keep-every", "0", *QUICK])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert code == 1
    assert "too large" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "b").exists()
    assert train.main([str(shapes), "--out", str(tmp_path / "b"), "--resume", *QUICK]) == 0
