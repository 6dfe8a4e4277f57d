"""The whole way from a folder per class to predictions."""

import json
import resource
import shutil

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from model import evaluate, predict, train, verify
from model.datasets import dataset
from model.inference import selftest
from model.networks import factory
from model.packaging import bundle as bundles
from model.packaging import manifest
from model.training import cli_args, prepare

pytestmark = pytest.mark.slow

SHIPPED = "model/bundles/sushi-or-sandwich"
QUICK = ["--size", "24", "--epochs", "2", "--threads", "1"]


def test_three_classes_go_the_whole_way(shapes_dir, tmp_path, capsys):
    out, notes = tmp_path / "shapes", tmp_path / "notes.md"
    notes.write_text("## Weaknesses\n\nOnly drawings.\n")
    image = str(shapes_dir / "circle" / "00.png")

    assert train.main([str(shapes_dir), "--out", str(out), "--folds", "2", "--notes", str(notes), *QUICK]) == 0

    bundle_manifest = manifest.read(out)
    assert (bundle_manifest.name, bundle_manifest.version) == ("shapes", "1")
    assert bundle_manifest.labels == ("circle", "square", "stripes")
    assert bundle_manifest.metrics["cross_validation"]["count"] == 60
    assert bundle_manifest.recipe["epochs"] == 2
    assert bundle_manifest.libraries["torch"]
    assert (out / "CARD.md").read_text().endswith("Only drawings.\n")
    assert verify.main([str(out)]) == 0
    capsys.readouterr()
    assert evaluate.main([str(out), str(shapes_dir), "--report", str(tmp_path / "report"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["digest"] == bundle_manifest.digest
    assert predict.main([str(out), image, "--json"]) == 0
    prediction = capsys.readouterr().out
    assert set(json.loads(prediction)["results"][0]["scores"]) == {"circle", "square", "stripes"}
    log_files = {"curves.csv", "curves.png", "label_doubts.csv", "label_doubts.png", "report.json"}
    assert {path.name for path in (tmp_path / "shapes-log").iterdir()} == log_files
    assert 0 <= json.loads(prediction)["results"][0]["familiarity"] <= 1


def test_without_folds_a_folder_of_its_own_gives_figures_and_the_temperature(shapes_dir, tmp_path, capsys):
    """Its images are not trained on: they would be skipped if they were in the first folder too."""
    photos, held_out, out = tmp_path / "photos", tmp_path / "held-out", tmp_path / "shapes"
    for path in sorted(shapes_dir.glob("*/*.png")):
        target = (held_out if int(path.stem) % 4 == 0 else photos) / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    assert train.main([str(photos), "--out", str(out), "--held-out", str(held_out), *QUICK]) == 0
    bundle_manifest = manifest.read(out)
    assert bundle_manifest.metrics["held_out"]["count"] == 15
    assert bundle_manifest.temperature != 1
    assert "parts of 15 images that were not trained on" in (out / "CARD.md").read_text()

    options = [str(photos), "--out", str(tmp_path / "more"), "--compare", str(out), *QUICK]
    capsys.readouterr()
    assert train.main(options) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "model.train: --compare needs held-out images: give --folds 5."
    assert not (tmp_path / "more.training").exists()
    assert train.main([*options, "--held-out", str(held_out)]) == 0
    assert "on 15 images of --held-out: accuracy" in capsys.readouterr().err
    comparison = json.loads((tmp_path / "more-log" / "report.json").read_text())["comparison"]
    assert (comparison["other"], comparison["count"]) == ("shapes@1", 15)


def test_held_out_images_are_not_trained_on_in_any_form(shapes_dir, tmp_path):
    """Not as an image of DATA or --extra, in other bytes, or resized and compressed again; nor is --extra in DATA."""
    folders = [tmp_path / name for name in ("data", "extra", "held-out")]
    for path in shapes_dir.glob("*/*.png"):
        folder = folders[min(int(path.stem) // 6, 2)] / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    data, extra, held_out = folders
    known = Image.open(data / "circle" / "01.png")
    for folder in (extra, held_out):
        known.save(folder / "circle" / "other-bytes.png", compress_level=1)
        known.resize((90, 90)).save(folder / "circle" / "resized.jpg", quality=90)
    shutil.copy(extra / "circle" / "07.png", held_out / "circle" / "in-extra.png")
    arguments = [str(data), "--extra", str(extra), "--held-out", str(held_out), "--out", str(tmp_path / "b")]

    run = prepare.prepare(
        cli_args.build_parser().parse_args([*arguments, "--size", "96", "--epochs", "1"]), lambda: False
    )

    assert {path.stem for path in run.task.extra.paths} == {f"{n:02}" for n in range(6, 12)}
    assert {path.stem for path in run.held_out.paths} == {f"{n:02}" for n in range(12, 20)}


@pytest.mark.parametrize(
    ("options", "sizes"), [([], ((0.45, 48), (1.0, 72))), (["--set", "sizes=[[0.5, 64]]"], ((0.5, 64),))]
)
def test_the_smaller_images_of_the_epochs_follow_the_size_unless_they_are_given(shapes_dir, tmp_path, options, sizes):
    arguments = [str(shapes_dir), "--out", str(tmp_path / "b"), "--network", "residual", "--size", "80", *options]

    run = prepare.prepare(cli_args.build_parser().parse_args(arguments), lambda: False)

    assert run.task.recipe.sizes == sizes


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v3_small"])
def test_torchvision_networks_go_the_whole_way_from_weights_of_other_classes(network, shapes_dir, tmp_path, capsys):
    out, weights = tmp_path / "shapes", tmp_path / "w.safetensors"
    started = factory.build(network, classes=7, height=32, width=32)
    safetensors.torch.save_file(started.state_dict(), weights)
    options = ["--network", network, "--size", "32", "--epochs", "2", "--threads", "1", "--weights", str(weights)]

    assert train.main([str(shapes_dir), "--out", str(out), *options]) == 0

    bundle_manifest = manifest.read(out)
    assert (bundle_manifest.network.name, bundle_manifest.network.classes) == (network, 3)
    assert bundle_manifest.preprocess.mean == (0.485, 0.456, 0.406)
    assert "w.safetensors, SHA-256" in bundle_manifest.recipe["weights"]
    assert verify.main([str(out)]) == 0
    assert predict.main([str(out), *(str(path) for path in sorted(shapes_dir.rglob("*.png"))[:3])]) == 0
    capsys.readouterr()
    classifier = selftest.load_verified(out, "cpu")
    images = dataset.read([shapes_dir], bundle_manifest.preprocess)
    alone = np.concatenate([classifier.classify(images.pixels_at(slice(n, n + 1))) for n in range(4)])
    np.testing.assert_allclose(classifier.classify(images.pixels_at(slice(None)))[:4], alone, atol=1e-5)


def test_the_same_seed_gives_the_same_bundle(shapes_dir, tmp_path, capsys):
    digests = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert train.main([str(shapes_dir), "--out", str(tmp_path / name), "--seed", seed, *QUICK]) == 0
        digests.append(bundles.load(tmp_path / name).digest)

    assert digests[0] == digests[1] != digests[2]
    assert digests[0] in capsys.readouterr().out


def test_unreadable_images_and_progress_are_reported_on_stderr(shapes_dir, tmp_path, capsys):
    folder = shutil.copytree(shapes_dir, tmp_path / "set")
    (folder / "circle" / "text.jpg").write_text("not an image")

    assert train.main([str(folder), "--out", str(tmp_path / "b"), *QUICK]) == 0

    captured = capsys.readouterr()
    assert "text.jpg: unsupported_format" in captured.err
    assert "read 60 images" in captured.err
    assert "epochs/s" in captured.err
    assert len(captured.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{missing}", "--out", "{out}"], "does not exist"),
        (["{shapes}", "--out", "{out}", "--network", "nonsense"], "Unknown network"),
        (["{shapes}", "--out", "{out}", "--size", "8"], "at least 22"),
        (["{shapes}", "--out", "{out}", "--folds", "99"], "--folds"),
        (["{shapes}", "--out", "{out}", "--name", "No Such Name!"], "name"),
        (["{shapes}", "--extra", "{missing}", "--out", "{out}"], "does not exist"),
        (["{shapes}", "--out", "{out}", "--set", "epoch=3"], "epoch is unknown; the options are epochs"),
        (["{shapes}", "--out", "{out}", "--folds", "2", "--fold-epochs", "1", "--set", "early=true"], "--fold-epochs"),
        (["{shapes}", "--out", "{out}", "--weights", "{missing}"], "cannot be read as safetensors"),
        (["{shapes}", "--out", "{out}", "--weights", "pretrained"], "no pre-trained weights for cookpad-cnn"),
        (["{shapes}", "--out", "{out}", "--recipe", "{missing}"], "cannot be read"),
        (["{shapes}", "--out", "{out}", "--notes", "{missing}"], "cannot be read"),
        (["{shapes}", "--out", "{out}", "--device", "tpu"], "Unknown device"),
        (["{shapes}", "--out", "{shapes}"], "is not a bundle"),
        (["{shapes}", "--out", "{shapes}/circle/00.png/deep/x"], "00.png: Not a directory): choose another"),
        (["{shapes}", "--out", "{out}", "--log", "{shapes}/circle/00.png"], "00.png cannot be written"),
        (["{shapes}", "--out", "{out}", "--log", "/proc/log"], "/proc/log cannot be written"),
        (["{shapes}/circle/00.png", "--out", "{out}"], "is a file"),
        (["{shapes}", "--extra", "{shapes}/circle", "--out", "{out}"], "lacks circle"),
        (["{shapes}", "--out", "{out}", "--set", "sizes=[[0.5, 16]]"], "it takes 24 x 24 only"),
        (["{shapes}", "--out", "{out}", "--held-out", "{shapes}"], "the same image is in DATA"),
        (["{shapes}", "--out", "{out}", "--folds", "2", "--held-out", "{shapes}"], "give --compare BUNDLE too"),
        (["{shapes}", "--out", "{out}", "--compare", SHIPPED], "their labels are"),
    ],
)
def test_invalid_input_gives_one_line_and_leaves_nothing(shapes_dir, tmp_path, arguments, message, capsys):
    places = {"shapes": shapes_dir, "missing": tmp_path / "missing", "out": tmp_path / "out"}

    code = train.main([*QUICK, *[argument.format(**places) for argument in arguments]])

    assert code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["{shapes}"], ["{shapes}", "--out", "o", "--epochs", "0"], ["{shapes}", "--out", "o", "--seed", "-1"]]
)
def test_wrong_usage_prints_the_usage(shapes_dir, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([argument.format(shapes=shapes_dir) for argument in arguments])

    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_diverged_training_exits_with_one(shapes_dir, tmp_path, capsys):
    assert train.main([str(shapes_dir), "--out", str(tmp_path / "b"), "--learning-rate", "inf", *QUICK]) == 1

    assert "smaller --learning-rate" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_full_disk_is_reported_in_one_line_and_nothing_is_lost(shapes_dir, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code = train.main([str(shapes_dir), "--out", str(tmp_path / "b"), "--keep-every", "0", *QUICK])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert code == 1
    assert "too large" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "b").exists()
    assert train.main([str(shapes_dir), "--out", str(tmp_path / "b"), "--resume", *QUICK]) == 0
