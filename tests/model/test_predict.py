"""Answers without the queue: a table for people, JSON for programs, a code for each failure."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model import bundle as bundles
from model import classifier, predict
from model.preprocess import Preprocess


@pytest.fixture
def pictures(shapes):
    return [str(shapes / shape / "00.png") for shape in ("circle", "square", "stripes")]


def test_pictures_are_answered_in_order_as_the_classifier_does(small_bundle, pictures, capsys):
    assert predict.main([str(small_bundle), *pictures, "--device", "cpu", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    loaded = bundles.load(small_bundle)
    pixels = np.stack([Preprocess(24, 24).pixels(Path(path).read_bytes()) for path in pictures])
    scores = classifier.Classifier(loaded, "cpu").classify(pixels)
    assert told["model"] == {"name": "shapes", "version": "1", "digest": loaded.digest}
    assert [answer["image"] for answer in told["results"]] == pictures
    for answer, row in zip(told["results"], scores, strict=True):
        assert answer["label"] == loaded.labels[row.argmax()]
        assert answer["confidence"] == answer["scores"][answer["label"]] == round(float(row.max()), 4)


def test_people_get_one_line_a_picture(small_bundle, pictures, capsys):
    assert predict.main([str(small_bundle), *pictures]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == pictures


def test_one_bad_file_fails_alone(small_bundle, pictures, tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    bad = [str(tmp_path / name) for name in ("empty.png", "text.jpg", "missing.png", ".")]

    assert predict.main([str(small_bundle), bad[0], pictures[0], *bad[1:], "--json"]) == 1

    answers = json.loads(capsys.readouterr().out)["results"]
    codes = [answer["error"] and answer["error"]["code"] for answer in answers]
    assert codes == ["empty", None, "unsupported_format", "unreadable", "unreadable"]
    assert [answer["status"] for answer in answers] == ["failed", "done", "failed", "failed", "failed"]


def test_failures_are_told_to_people_too(small_bundle, tmp_path, capsys):
    assert predict.main([str(small_bundle), str(tmp_path / "missing.png")]) == 1

    assert "unreadable" in capsys.readouterr().out


def test_scores_that_are_no_numbers_are_a_failure(small_bundle, pictures):
    loaded = bundles.load(small_bundle)
    with torch.no_grad():
        loaded.network[-1].bias[0] = float("nan")

    (answer,) = predict.predict(classifier.Classifier(loaded, "cpu"), [Path(pictures[0])])
    assert answer["error"]["code"] == "bad_output"


def test_more_pictures_than_a_batch_keep_their_order(small_bundle, shapes):
    paths = sorted(shapes.rglob("*.png")) * 3
    answers = list(predict.predict(classifier.Classifier(bundles.load(small_bundle), "cpu"), paths))

    assert [answer["image"] for answer in answers] == [str(path) for path in paths]
    assert [answer["label"] for answer in answers[:60]] == [answer["label"] for answer in answers[120:]]


def test_a_folder_that_is_no_bundle_is_a_usage_error(tmp_path, pictures, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main([str(tmp_path), *pictures])

    assert stop.value.code == 2
    assert "not a bundle" in capsys.readouterr().err
