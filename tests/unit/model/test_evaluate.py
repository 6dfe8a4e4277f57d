"""A bundle is evaluated on labelled images."""

import dataclasses
import json
import shutil

import pytest
from PIL import Image

from model import evaluate
from model.inference import selftest
from model.packaging import bundle as bundles

PLOTS = ("confusion_matrix", "roc", "precision_recall", "reliability", "mistakes")


def test_evaluation_prints_and_keeps_the_report(shapes_dir, small_bundle, tmp_path, capsys):
    report = tmp_path / "deep" / "report"

    assert evaluate.main([str(small_bundle), str(shapes_dir), "--report", str(report), "--json"]) == 0

    metric_values = json.loads(capsys.readouterr().out)
    assert set(metric_values) == {
        *("accuracy", "balanced_accuracy", "auc", "log_loss", "ece", "per_class", "confusion", "count", "skipped"),
        "model",
    }
    assert set(metric_values["per_class"]["circle"]) == {"precision", "recall", "f1", "support"}
    assert metric_values["model"]["digest"] == bundles.load(small_bundle).digest
    assert metric_values["count"] == 60
    assert json.loads((report / "metrics.json").read_text()) == metric_values
    assert "balanced accuracy" in (report / "report.txt").read_text()
    for name in PLOTS:
        with Image.open(report / f"{name}.png") as image:
            assert image.size > (300, 300)


def test_names_that_look_like_formulas_or_are_not_in_the_font_are_drawn(
    tmp_path, small_network, small_manifest, save_bundle, shapes_dir
):
    labels = ("$a_b^", "_寿司", "c")
    bundle_manifest = dataclasses.replace(small_manifest, labels=labels)
    folder = save_bundle(tmp_path / "shapes", small_network, bundle_manifest)
    for label, shape in zip(labels, ("circle", "square", "stripes"), strict=True):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            shutil.copy(shapes_dir / shape / f"{number:02}.png", tmp_path / "set" / label / f"$x^{number} {label}.png")

    assert evaluate.main([str(folder), str(tmp_path / "set"), "--report", str(tmp_path / "report")]) == 0

    assert (tmp_path / "report" / "mistakes.png").exists()


def test_without_a_report_nothing_is_written(shapes_dir, small_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))

    assert evaluate.main([str(small_bundle), str(shapes_dir)]) == 0

    assert set(tmp_path.rglob("*")) == before


def test_a_class_without_images_has_no_recall_and_is_left_out_of_the_means(shapes_dir, small_bundle, tmp_path, capsys):
    for name in ("circle", "square"):
        shutil.copytree(shapes_dir / name, tmp_path / "set" / name)
    (tmp_path / "set" / "circle" / "text.png").write_text("not an image")

    arguments = [str(small_bundle), str(tmp_path / "set"), "--json", "--report", str(tmp_path / "report")]
    assert evaluate.main(arguments) == 0

    captured = capsys.readouterr()
    metric_values = json.loads(captured.out)
    assert metric_values["per_class"]["stripes"]["recall"] is None
    recalls = [metric_values["per_class"][name]["recall"] for name in ("circle", "square")]
    assert metric_values["balanced_accuracy"] == pytest.approx(sum(recalls) / 2)
    assert metric_values["skipped"][0]["image"].endswith("text.png")
    assert "class stripes has no images" in captured.err
    assert "text.png: unsupported_format" in captured.err


def test_a_data_set_of_one_class_has_no_auc(shapes_dir, small_bundle, tmp_path, capsys):
    shutil.copytree(shapes_dir / "circle", tmp_path / "set" / "circle")

    assert evaluate.main([str(small_bundle), str(tmp_path / "set"), "--report", str(tmp_path / "report")]) == 0

    assert "AUC from scores    not defined" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_reported_after_the_metrics(shapes_dir, small_bundle, tmp_path, capsys):
    (tmp_path / "file").touch()

    assert evaluate.main([str(small_bundle), str(shapes_dir), "--report", str(tmp_path / "file")]) == 1

    captured = capsys.readouterr()
    assert "accuracy" in captured.out
    assert "give another folder" in captured.err


def test_the_report_has_the_published_form(shapes_dir, small_bundle, capsys):
    assert evaluate.main([str(small_bundle), str(shapes_dir)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "recall", "f1-score", "support"]
    assert [line.split()[0] for line in lines[1:5]] == ["circle", "square", "stripes", "avg"]
    assert lines[4].split()[-1] == "60"


def test_the_metrics_are_those_of_the_classifiers_predictions(shapes_dir, small_bundle):
    classifier = selftest.load_verified(small_bundle, "cpu")

    evaluation = evaluate.evaluate(classifier, [shapes_dir])

    images = evaluation.images
    probabilities = classifier.classify(images.pixels_at(slice(None)))
    assert evaluation.metric_values["accuracy"] == (probabilities.argmax(axis=1) == images.targets).mean()


def test_classes_unknown_to_the_bundle_are_rejected(small_bundle, shapes_dir, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.png").write_bytes((shapes_dir / "circle" / "00.png").read_bytes())

    assert evaluate.main([str(small_bundle), str(tmp_path / "pets")]) == 2

    assert "has the unknown cat, dog" in capsys.readouterr().err
