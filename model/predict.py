"""Keeps answers without a queue: `python -m model.predict BUNDLE IMAGE... [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model import preprocess, selftest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model.classifier import Classifier

# Batches and digits of the service (worker/classify.py): in another batch, the last digit might be another.
BATCH = 16
DIGITS = 6


def predict(classifier: Classifier, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """One answer a path, in order, in the form that the service gives; a failure has `error` and no label."""
    for start in range(0, len(paths), BATCH):
        chosen = paths[start : start + BATCH]
        read = [_pixels(path, classifier.bundle.preprocess) for path in chosen]
        readable = [pixels for pixels in read if isinstance(pixels, np.ndarray)]
        scores = iter(classifier.classify(np.stack(readable)) if readable else ())
        for path, pixels in zip(chosen, read, strict=True):
            fate = pixels if isinstance(pixels, dict) else _answer(next(scores), classifier.bundle.labels)
            yield {"image": str(path), **fate}


def _pixels(path: Path, shape: preprocess.Preprocess) -> np.ndarray[Any, np.dtype[np.uint8]] | dict[str, Any]:
    try:
        return shape.pixels(path.read_bytes())
    except preprocess.BadPicture as bad:
        return _failure(bad.code, bad.detail)
    except OSError as wrong:
        return _failure("unreadable", f"The file cannot be read: {wrong.strerror or wrong}.")


def _answer(scores: np.ndarray[Any, np.dtype[np.float32]], labels: Sequence[str]) -> dict[str, Any]:
    if not np.isfinite(scores).all():
        return _failure("bad_output", "The network gave no finite scores for this picture.")
    best = int(scores.argmax())
    rounded = {label: round(float(score), DIGITS) for label, score in zip(labels, scores, strict=True)}
    told = {"label": labels[best], "confidence": rounded[labels[best]], "scores": rounded}
    return {"status": "done", **told, "error": None}


def _failure(code: str, detail: str) -> dict[str, Any]:
    error = {"code": code, "detail": detail}
    return {"status": "failed", "label": None, "confidence": None, "scores": None, "error": error}


def _line(answer: dict[str, Any], wide: int) -> str:
    if answer["error"]:
        return f"{answer['image']:{wide}}  {answer['error']['code']}: {answer['error']['detail']}"
    return f"{answer['image']:{wide}}  {answer['label']}  {answer['confidence']:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one answer an image: 0 all well, 1 some failed, 2 usage or a bad bundle."""
    parser = argparse.ArgumentParser(prog="model.predict", description="Labels pictures without the queue.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    chosen = parser.parse_args(arguments)
    try:
        classifier = selftest.opened(chosen.bundle, chosen.device)
    except ValueError as wrong:
        sys.stderr.write(f"model.predict: {wrong}\n")
        return 2
    answers = list(predict(classifier, chosen.images))
    if chosen.json:
        made_by = classifier.bundle
        model = {"name": made_by.name, "version": made_by.version, "digest": made_by.digest}
        sys.stdout.write(json.dumps({"model": model, "results": answers}) + "\n")
    else:
        wide = max(len(answer["image"]) for answer in answers)
        sys.stdout.write("".join(_line(answer, wide) + "\n" for answer in answers))
    return 1 if any(answer["error"] for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
