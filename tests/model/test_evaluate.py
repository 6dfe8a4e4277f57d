"""A bundle is judged on labelled pictures."""

import json

import pytest

from model import bundle as bundles
from model import classifier, data, evaluate


def test_evaluation_prints_and_keeps_the_report(shapes, small_bundle, tmp_path, capsys):
    report = tmp_path / "report"

    assert evaluate.main([str(small_bundle), str(shapes), "--report", str(report), "--json"]) == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["count"] == 60
    assert json.loads((report / "metrics.json").read_text()) == figures
    assert "balanced accuracy" in (report / "report.txt").read_text()


def test_the_report_has_the_published_form(shapes, small_bundle, capsys):
    assert evaluate.main([str(small_bundle), str(shapes)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "recall", "f1-score", "support"]
    assert [line.split()[0] for line in lines[1:5]] == ["circle", "square", "stripes", "avg"]
    assert lines[4].split()[-1] == "60"


def test_the_figures_are_those_of_the_classifiers_own_answers(shapes, small_bundle):
    loaded = bundles.load(small_bundle)
    photos = data.read([shapes], loaded.preprocess)
    judge = classifier.Classifier(loaded, "cpu")

    figures = evaluate.evaluate(judge, photos)

    assert figures["accuracy"] == (judge.classify(photos.pixels).argmax(axis=1) == photos.targets).mean()


def test_other_classes_than_the_bundles_are_refused(small_bundle, shapes, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.png").write_bytes((shapes / "circle" / "00.png").read_bytes())

    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(small_bundle), str(tmp_path / "pets")])

    assert stop.value.code == 2
    assert "instead of circle, square, stripes" in capsys.readouterr().err
