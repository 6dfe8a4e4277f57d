"""Answers without the queue: a table for people, JSON for programs, a code for each failure."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.store import work
from model import bundle as bundles
from model import classifier, manifest, predict
from model.preprocess import Preprocess
from worker import classify, decoders


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
        assert answer["confidence"] == answer["scores"][answer["label"]] == round(float(row.max()), 6)


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


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, pictures, capsys):
    assert predict.main([str(tmp_path), *pictures]) == 2

    assert "not a bundle" in capsys.readouterr().err


def test_a_bundle_whose_self_test_fails_is_refused(small_bundle, pictures, capsys):
    about = manifest.read(small_bundle)
    other = dataclasses.replace(about.selftest, probabilities=(0.9, 0.05, 0.05))
    manifest.write(small_bundle, dataclasses.replace(about, selftest=other))

    assert predict.main([str(small_bundle), *pictures]) == 2

    assert "self-test fails" in capsys.readouterr().err


def test_the_answers_are_the_services_to_the_last_digit(small_bundle, shapes):
    paths = sorted(shapes.rglob("*.png"))
    ready = classifier.Classifier(bundles.load(small_bundle), "cpu")

    answers = list(predict.predict(ready, paths))

    pixels = np.stack([Preprocess(24, 24).pixels(path.read_bytes()) for path in paths])
    claims = [work.Claim(n, "job", path.name, "0" * 64, 1, "me", datetime.now(UTC)) for n, path in enumerate(paths)]
    fates = classify.Judge(ready).fates(claims, pixels, [decoders.Outcome(None, 1.0)] * len(paths))
    assert len(answers) == 60
    for answer, fate in zip(answers, fates, strict=True):
        assert (answer["label"], answer["confidence"], answer["scores"]) == (fate.label, fate.confidence, fate.scores)
