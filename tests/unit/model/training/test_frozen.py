"""From a folder of photos to a linear head on frozen published weights."""

import csv
import json
import resource
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from model import predict, train, verify
from model.datasets import dataset
from model.evaluation import plots
from model.inference import selftest
from model.packaging import bundle as bundles
from model.packaging import manifest
from model.preprocessing.decode import Preprocess
from model.training import comparison, crossvalidation, features, label_doubts, near_duplicates
from model.training.result import TrainingResult

pytestmark = pytest.mark.slow

QUICK = ["--network", "efficientnet-lite0", "--size", "32", "--threads", "1"]


@pytest.fixture
def photo_dir(shapes_dir, tmp_path):
    """Return two classes of eight images each, which a test may change."""
    for shape in ("circle", "stripes"):
        for path in sorted((shapes_dir / shape).iterdir())[:8]:
            (tmp_path / "set" / shape).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "set" / shape)
    return tmp_path / "set"


def test_a_folder_becomes_a_bundle_with_held_out_figures_and_a_report(shapes_dir, tmp_path, capsys):
    """No option is needed but the quick network."""
    out = tmp_path / "shapes"

    assert train.main([str(shapes_dir), "--out", str(out), *QUICK]) == 0

    captured = capsys.readouterr()
    loaded = bundles.load(out)
    result = loaded.manifest.metrics["cross_validation"]
    assert (result["folds"], result["count"]) == (5, 60)
    assert result["accuracy"]["mean"] > 0.6
    assert loaded.manifest.recipe["method"] == "linear head on frozen features"
    assert loaded.manifest.recipe["weights"].startswith("pretrained: trained on ImageNet, from efficientnet-")
    assert "Apache License 2.0" in (out / "CARD.md").read_text()
    assert loaded.preprocess == Preprocess(32, 32, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3, "crop", 0.875)
    assert "a head fitted for each fold" in (out / "CARD.md").read_text()
    assert "held out, 5 folds of 60 images: accuracy" in captured.err
    assert len(captured.out.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"shapes", "shapes-log"}
    report = json.loads((tmp_path / "shapes-log" / "report.json").read_text())
    doubts = list(csv.DictReader((tmp_path / "shapes-log" / "label_doubts.csv").read_text().splitlines()))
    assert len(doubts) == len(report["label_doubts"]) == round(60 * (1 - report["held_out"]["accuracy"]))
    assert (tmp_path / "shapes-log" / "label_doubts.png").read_bytes().startswith(b"\x89PNG")
    assert verify.main([str(out)]) == 0
    capsys.readouterr()
    assert predict.main([str(out), str(shapes_dir / "circle" / "00.png"), "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["results"]
    assert 0 <= prediction["familiarity"] <= 1


def test_the_backbone_keeps_the_published_weights(photo_dir, tmp_path):
    """Only the head is fitted; float16 rounds the rest."""
    assert train.main([str(photo_dir), "--out", str(tmp_path / "b"), "--precision", "float32", *QUICK]) == 0

    network, images = bundles.load(tmp_path / "b").network, torch.zeros(1, 3, 32, 32)
    from model.networks import factory, pretrained

    published = factory.build("efficientnet-lite0", classes=2, height=32, width=32)
    pretrained.load_into(published, pretrained.load_weights("efficientnet-lite0", "pretrained"), 2)
    torch.testing.assert_close(network[:-1](images), published.eval()[:-1](images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: [path.unlink() for path in sorted((folder / "circle").iterdir())[4:]], "circle has 4"),
        (lambda folder: shutil.rmtree(folder / "circle"), "has 1 class folder(s), stripes"),
        (lambda folder: [path.write_bytes(b"x") for path in (folder / "circle").iterdir()], "no readable image"),
        (lambda folder: (folder / "empty").mkdir(), "empty is empty"),
        (shutil.rmtree, "does not exist"),
        (lambda folder: shutil.copytree(folder / "circle", folder / "copies"), "no readable image"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_gives_one_line_and_leaves_nothing(
    photo_dir, tmp_path, change, message, capsys
):
    """Too few photos of a class, one class, or the same photos in both."""
    change(photo_dir)

    assert train.main([str(photo_dir), "--out", str(tmp_path / "b"), *QUICK]) == 2

    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} <= {"set"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "no-such"], "Unknown network 'no-such'"),
        (["--folds", "0"], "--folds 0 cannot choose a head"),
        (["--folds", "9"], "--folds is 9: give 2 to 8"),
        (["--network", "cookpad-cnn", "--weights", "pretrained"], "no pre-trained weights for cookpad-cnn"),
        (["--network", "cookpad-cnn", "--fine-tune"], "--fine-tune needs weights to start from"),
        (["--weights", "missing.safetensors"], "cannot be read as safetensors"),
    ],
)
def test_invalid_options_give_one_line_and_leave_nothing(photo_dir, tmp_path, options, message, capsys):
    assert train.main([str(photo_dir), "--out", str(tmp_path / "b"), *QUICK, *options]) == 2

    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_out_of_memory_gives_one_line_and_leaves_nothing(photo_dir, tmp_path, error, monkeypatch, capsys):
    monkeypatch.setattr(features, "compute", lambda *_: (_ for _ in ()).throw(error))

    assert train.main([str(photo_dir), "--out", str(tmp_path / "b"), *QUICK]) == 1

    assert capsys.readouterr().err.splitlines()[-1].startswith("model.train: Out of memory: close other programs")
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_a_full_disk_gives_one_line_and_no_bundle(photo_dir, tmp_path, capsys, monkeypatch):
    """The report fits on the disk, the weights do not."""
    monkeypatch.setattr(plots, "mistakes", lambda *_: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code = train.main([str(photo_dir), "--out", str(tmp_path / "b"), *QUICK])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert code == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("Fix this, then repeat the command.")
    assert not (tmp_path / "b").exists()


def test_copies_of_one_photo_are_in_the_same_fold(photo_dir):
    """A resized and compressed copy has nearly the same features."""
    groups = near_duplicates.group(6, np.array([[0, 3], [3, 5]]))
    assert groups[0] == groups[3] == groups[5] != groups[1]
    targets, groups = np.array([0] * 10 + [1] * 10), np.array([0, 0, *range(2, 20)], np.int32)

    for seed in range(5):
        folds = crossvalidation.split(targets, 5, seed, groups)
        assert sorted(np.concatenate(folds).tolist()) == list(range(20))
        assert any({0, 1} <= set(fold.tolist()) for fold in folds)


def test_photos_of_a_fixed_camera_are_learned_from_with_a_warning(photo_dir, tmp_path, capsys):
    """All pairs look alike: a class is not refused, and the messages do not grow with the square of the photos."""
    scene = np.random.default_rng(0).integers(60, 200, (8, 8, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    for folder in photo_dir.iterdir():
        for number, path in enumerate(sorted(folder.iterdir())):
            photo = scene.copy()
            photo[40 + number, 40:60] += 9 if folder.name == "circle" else 30
            Image.fromarray(photo).save(path)

    assert train.main([str(photo_dir), "--out", str(tmp_path / "b"), *QUICK]) == 0

    lines = capsys.readouterr().err.splitlines()
    assert sum("look like one photo in two classes: remove one." in line for line in lines) == 10
    assert "54 more pairs look like one photo in two classes." in lines
    warning = "the held-out figures are too good if they are copies of one photo"
    assert f"all images of circle, stripes look alike: {warning}" in lines
    assert manifest.read(tmp_path / "b").metrics["cross_validation"]["folds"] == 5


def test_copies_are_found_by_features_and_colours(photo_dir):
    """Drawings may have nearly the same features and be different."""
    Image.open(photo_dir / "circle" / "00.png").resize((90, 90)).save(photo_dir / "circle" / "copy.jpg", quality=90)
    images = dataset.read([photo_dir], Preprocess(96, 96))
    names = [path.name for path in images.paths]
    copy, original = names.index("copy.jpg"), names.index("00.png")

    same_features = near_duplicates.find_pairs(images, torch.ones(17, 4))
    other_features = near_duplicates.find_pairs(images, torch.eye(17))

    assert same_features.tolist() == near_duplicates.find_pairs(images).tolist() == [sorted([copy, original])]
    assert other_features.tolist() == []
    others = images.subset(np.setdiff1d(np.arange(17), [copy]))
    assert near_duplicates.have_copies(images.subset(np.array([copy, 8])), others).tolist() == [True, True]
    assert near_duplicates.have_copies(images.subset(np.array([copy, 8])), images.subset(np.arange(9, 17))).sum() == 0


def test_the_most_doubted_labels_come_first(photo_dir):
    images = dataset.read([photo_dir], Preprocess(8, 8))
    probabilities = np.full((16, 2), 0.5) + np.array([0.4, -0.4])
    probabilities[8:] = probabilities[8:, ::-1]
    probabilities[3], probabilities[12] = (0.1, 0.9), (0.95, 0.05)

    doubts = label_doubts.find(images, probabilities)

    assert [(doubt["label"], doubt["probability"]) for doubt in doubts] == [("stripes", 0.05), ("circle", 0.1)]
    assert doubts[0]["image"] == str(images.paths[12])


def test_a_comparison_takes_the_held_out_label_of_photos_that_the_other_model_knows(photo_dir, tmp_path, capsys):
    """A photo that it has not seen is classified now; without a record of its photos the report says so."""
    assert train.main([str(photo_dir), "--out", str(tmp_path / "b"), *QUICK]) == 0
    other = selftest.load_verified(tmp_path / "b", "cpu")
    result = manifest.read(tmp_path / "b").metrics["cross_validation"]
    images = dataset.read([photo_dir], Preprocess(8, 8))
    perfect = TrainingResult(other.bundle.network, other.bundle.manifest, None, np.eye(2)[images.targets])

    known = comparison.compare(images, perfect, other)
    Image.new("RGB", (40, 40), "red").save(photo_dir / "circle" / "new.png")
    more = dataset.read([photo_dir], Preprocess(8, 8))
    perfect_on_more = TrainingResult(perfect.network, perfect.manifest, None, np.eye(2)[more.targets])

    assert known["held_out_by_both"]
    assert (known["count"], known["accuracy"]) == (16, 1)
    assert known["other_accuracy"] == pytest.approx(np.mean(result["accuracy"]["each"]), abs=0.07)
    assert comparison.compare(more, perfect_on_more, other)["count"] == 17
    capsys.readouterr()
    assert train.main([str(photo_dir), "--out", str(tmp_path / "c"), "--compare", str(tmp_path / "b"), *QUICK]) == 0
    assert "on the same 17 images: accuracy" in capsys.readouterr().err
    held_out = tmp_path / "held-out" / "stripes"
    held_out.mkdir(parents=True)
    Image.new("RGB", (40, 40), "blue").save(held_out / "new.png")
    shutil.copy(photo_dir / "circle" / "new.png", held_out / "known.png")  # it is trained on, and left out
    options = ["--compare", str(tmp_path / "b"), "--held-out", str(tmp_path / "held-out"), *QUICK]
    assert train.main([str(photo_dir), "--out", str(tmp_path / "d"), *options]) == 0
    assert "on 1 images of --held-out: accuracy" in capsys.readouterr().err
