"""A bundle is judged on labelled pictures."""

import dataclasses
import json
import shutil

import pytest
from PIL import Image

from model import bundle as bundles
from model import evaluate, selftest

PICTURES = ("confusion_matrix", "roc", "precision_recall", "reliability", "mistakes")


def test_evaluation_prints_and_keeps_the_report(shapes, small_bundle, tmp_path, capsys):
    report = tmp_path / "deep" / "report"

    assert evaluate.main([str(small_bundle), str(shapes), "--report", str(report), "--json"]) == 0

    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {
        *("accuracy", "balanced_accuracy", "auc", "log_loss", "ece", "per_class", "confusion", "count", "skipped"),
        "model",
    }
    assert set(figures["per_class"]["circle"]) == {"precision", "recall", "f1", "support"}
    assert figures["model"]["digest"] == bundles.load(small_bundle).digest
    assert figures["count"] == 60
    assert json.loads((report / "metrics.json").read_text()) == figures
    assert "balanced accuracy" in (report / "report.txt").read_text()
    for name in PICTURES:
        with Image.open(report / f"{name}.png") as picture:
            assert picture.size > (300, 300)


def test_names_that_look_like_formulas_or_are_not_in_the_font_are_drawn(
    tmp_path, small_network, small_manifest, saved, shapes
):
    labels = ("$a_b^", "_寿司", "c")
    about = dataclasses.replace(small_manifest, labels=labels)
    folder = saved(tmp_path / "shapes", small_network, about)
    for label, shape in zip(labels, ("circle", "square", "stripes"), strict=True):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            shutil.copy(shapes / shape / f"{number:02}.png", tmp_path / "set" / label / f"$x^{number} {label}.png")

    assert evaluate.main([str(folder), str(tmp_path / "set"), "--report", str(tmp_path / "report")]) == 0

    assert (tmp_path / "report" / "mistakes.png").exists()


def test_without_a_report_nothing_is_written(shapes, small_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))

    assert evaluate.main([str(small_bundle), str(shapes)]) == 0

    assert set(tmp_path.rglob("*")) == before


def test_a_class_without_pictures_has_no_recall_and_no_part_in_the_means(shapes, small_bundle, tmp_path, capsys):
    for name in ("circle", "square"):
        shutil.copytree(shapes / name, tmp_path / "set" / name)
    (tmp_path / "set" / "circle" / "text.png").write_text("no picture")

    arguments = [str(small_bundle), str(tmp_path / "set"), "--json", "--report", str(tmp_path / "report")]
    assert evaluate.main(arguments) == 0

    told = capsys.readouterr()
    figures = json.loads(told.out)
    assert figures["per_class"]["stripes"]["recall"] is None
    recalls = [figures["per_class"][name]["recall"] for name in ("circle", "square")]
    assert figures["balanced_accuracy"] == pytest.approx(sum(recalls) / 2)
    assert figures["skipped"][0]["image"].endswith("text.png")
    assert "no pictures of stripes" in told.err
    assert "text.png: unsupported_format" in told.err


def test_a_set_of_one_class_has_no_area_under_a_curve(shapes, small_bundle, tmp_path, capsys):
    shutil.copytree(shapes / "circle", tmp_path / "set" / "circle")

    assert evaluate.main([str(small_bundle), str(tmp_path / "set"), "--report", str(tmp_path / "report")]) == 0

    assert "AUC from scores    not defined" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_told_after_the_figures(shapes, small_bundle, tmp_path, capsys):
    (tmp_path / "file").touch()

    assert evaluate.main([str(small_bundle), str(shapes), "--report", str(tmp_path / "file")]) == 1

    told = capsys.readouterr()
    assert "accuracy" in told.out
    assert "give another folder" in told.err


def test_the_report_has_the_published_form(shapes, small_bundle, capsys):
    assert evaluate.main([str(small_bundle), str(shapes)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "recall", "f1-score", "support"]
    assert [line.split()[0] for line in lines[1:5]] == ["circle", "square", "stripes", "avg"]
    assert lines[4].split()[-1] == "60"


def test_the_figures_are_those_of_the_classifiers_own_answers(shapes, small_bundle):
    judge = selftest.opened(small_bundle, "cpu")

    judged = evaluate.evaluate(judge, [shapes])

    photos = judged.photos
    said = judge.classify(photos.take(slice(None)))
    assert judged.figures["accuracy"] == (said.argmax(axis=1) == photos.targets).mean()


def test_other_classes_than_the_bundles_are_refused(small_bundle, shapes, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.png").write_bytes((shapes / "circle" / "00.png").read_bytes())

    assert evaluate.main([str(small_bundle), str(tmp_path / "pets")]) == 2

    assert "has cat, dog too" in capsys.readouterr().err
