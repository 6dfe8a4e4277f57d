"""Classify image files without a server: `python -m model.predict BUNDLE IMAGE... [--json]`."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imaging import errors
from model.inference import scoring, selftest
from model.preprocessing import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from model.inference.classifier import Classifier

# The worker's batch size on a CPU (worker/inference.py): the last digit of a score depends on it.
BATCH_SIZE = 16


def predict(classifier: Classifier, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield one result per path, in order, in the form of the API; a failed one has `error` and no label."""
    for start in range(0, len(paths), BATCH_SIZE):
        batch_paths = paths[start : start + BATCH_SIZE]
        decoded = [_read_pixels(path, classifier.bundle.preprocess) for path in batch_paths]
        readable = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
        scores = classifier.score(np.stack(readable)) if readable else classifier.unknown(0)
        predictions = scoring.predictions(scores.probabilities, classifier.bundle.labels, scores.familiarity)
        for path, pixels in zip(batch_paths, decoded, strict=True):
            result = pixels if isinstance(pixels, dict) else _result(next(predictions))
            yield {"image": str(path), **result}


def _read_pixels(path: Path, preprocess: decode.Preprocess) -> npt.NDArray[np.uint8] | dict[str, Any]:
    try:
        return preprocess.decode(path.read_bytes())
    except errors.ImageDecodeError as error:
        return _failure(error.code, error.detail)
    except OSError as error:
        return _failure("unreadable", f"The file cannot be read: {error.strerror or error}.")


def _result(prediction: scoring.Prediction | None) -> dict[str, Any]:
    if prediction is None:
        return _failure("bad_output", "The network's scores are not finite numbers.")
    return {"status": "done", **prediction, "error": None}


def _failure(code: str, detail: str) -> dict[str, Any]:
    error = {"code": code, "detail": detail}
    unknown = dict.fromkeys(("label", "confidence", "scores", "familiarity"))
    return {"status": "failed", **unknown, "error": error}


def _line(result: dict[str, Any], path_width: int) -> str:
    if result["error"]:
        return f"{result['image']:{path_width}}  {result['error']['code']}: {result['error']['detail']}"
    return f"{result['image']:{path_width}}  {result['label']}  {result['confidence']:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print one result per image: 0 all classified, 1 some failed, 2 usage or invalid bundle."""
    parser = argparse.ArgumentParser(prog="model.predict", description="Classify image files without a server.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may have bytes that are not UTF-8
    try:
        classifier = selftest.load_verified(args.bundle, args.device)
    except ValueError as error:
        sys.stderr.write(f"model.predict: {error}\n")
        return 2
    results = list(predict(classifier, args.images))
    if args.json:
        bundle = classifier.bundle
        model = {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}
        sys.stdout.write(json.dumps({"model": model, "results": results}) + "\n")
    else:
        path_width = max(len(result["image"]) for result in results)
        sys.stdout.write("".join(_line(result, path_width) + "\n" for result in results))
    return 1 if any(result["error"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
