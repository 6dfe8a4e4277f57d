"""Predictions without a server: a table, JSON, and an error code for each failure."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from core.db.queries import claims as claim_queries
from model import predict
from model.inference import classifier
from model.packaging import bundle as bundles
from model.packaging import manifest
from model.preprocessing.decode import Preprocess
from worker import inference
from worker.decoding import decode_batch


@pytest.fixture
def image_paths(shapes_dir):
    return [str(shapes_dir / shape / "00.png") for shape in ("circle", "square", "stripes")]


def test_results_are_in_order_and_those_of_the_classifier(small_bundle, image_paths, capsys):
    assert predict.main([str(small_bundle), *image_paths, "--device", "cpu", "--json"]) == 0

    output = json.loads(capsys.readouterr().out)
    loaded = bundles.load(small_bundle)
    pixels = np.stack([Preprocess(24, 24).decode(Path(path).read_bytes()) for path in image_paths])
    scores = classifier.Classifier(loaded, "cpu").classify(pixels)
    assert output["model"] == {"name": "shapes", "version": "1", "digest": loaded.digest}
    assert [result["image"] for result in output["results"]] == image_paths
    for result, row in zip(output["results"], scores, strict=True):
        assert result["label"] == loaded.labels[row.argmax()]
        assert result["confidence"] == result["scores"][result["label"]] == round(float(row.max()), 6)


def test_the_table_has_one_line_per_image(small_bundle, image_paths, capsys):
    assert predict.main([str(small_bundle), *image_paths]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == image_paths


def test_one_bad_file_fails_alone(small_bundle, image_paths, tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    bad = [str(tmp_path / name) for name in ("empty.png", "text.jpg", "missing.png", ".")]

    assert predict.main([str(small_bundle), bad[0], image_paths[0], *bad[1:], "--json"]) == 1

    results = json.loads(capsys.readouterr().out)["results"]
    codes = [result["error"] and result["error"]["code"] for result in results]
    assert codes == ["empty", None, "unsupported_format", "unreadable", "unreadable"]
    assert [result["status"] for result in results] == ["failed", "done", "failed", "failed", "failed"]


def test_a_file_name_that_is_not_utf_8_is_printed_as_it_is(small_bundle, image_paths, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(image_paths[0], path)

    command = [sys.executable, "-m", "model.predict", str(small_bundle), path]
    assert subprocess.run(command, capture_output=True, check=True).stdout.startswith(path + b"  ")


def test_the_table_shows_failures(small_bundle, tmp_path, capsys):
    assert predict.main([str(small_bundle), str(tmp_path / "missing.png")]) == 1

    assert "unreadable" in capsys.readouterr().out


def test_scores_that_are_not_finite_are_a_failure(small_bundle, image_paths):
    loaded = bundles.load(small_bundle)
    with torch.no_grad():
        loaded.network[-1].bias[0] = float("nan")

    (result,) = predict.predict(classifier.Classifier(loaded, "cpu"), [Path(image_paths[0])])
    assert result["error"]["code"] == "bad_output"


def test_several_batches_keep_their_order(small_bundle, shapes_dir):
    paths = sorted(shapes_dir.rglob("*.png")) * 3
    results = list(predict.predict(classifier.Classifier(bundles.load(small_bundle), "cpu"), paths))

    assert [result["image"] for result in results] == [str(path) for path in paths]
    assert [result["label"] for result in results[:60]] == [result["label"] for result in results[120:]]


def test_a_folder_that_is_not_a_bundle_is_rejected(tmp_path, image_paths, capsys):
    assert predict.main([str(tmp_path), *image_paths]) == 2

    assert "not a bundle" in capsys.readouterr().err


def test_a_bundle_whose_self_test_fails_is_rejected(small_bundle, image_paths, capsys):
    bundle_manifest = manifest.read(small_bundle)
    other = dataclasses.replace(bundle_manifest.selftest, probabilities=(0.9, 0.05, 0.05))
    manifest.write(small_bundle, dataclasses.replace(bundle_manifest, selftest=other))

    assert predict.main([str(small_bundle), *image_paths]) == 2

    assert "self-test fails" in capsys.readouterr().err


def test_the_results_are_the_workers_to_the_last_digit(small_bundle, shapes_dir):
    paths = sorted(shapes_dir.rglob("*.png"))
    loaded_classifier = classifier.Classifier(bundles.load(small_bundle), "cpu")

    results = list(predict.predict(loaded_classifier, paths))

    pixels = np.stack([Preprocess(24, 24).decode(path.read_bytes()) for path in paths])
    claims = [
        claim_queries.Claim(n, "job", path.name, "0" * 64, 1, "me", datetime.now(UTC)) for n, path in enumerate(paths)
    ]
    outcomes = inference.BatchClassifier(loaded_classifier).classify(
        claims, pixels, [decode_batch.DecodeOutcome(None, 1.0)] * len(paths)
    )
    assert len(results) == 60
    for result, outcome in zip(results, outcomes, strict=True):
        assert (result["label"], result["confidence"], result["scores"]) == (
            outcome.label,
            outcome.confidence,
            outcome.scores,
        )
