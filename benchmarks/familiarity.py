"""Measure how well familiarity separates held-out photos from images of other things.

    python -m benchmarks.familiarity BUNDLE PHOTOS [OTHER ...]

PHOTOS has one sub-folder per class. For each of five folds, references are chosen from the other folds; the fold's
photos and the OTHER images are compared by four scores, as the area under the ROC curve (1 is perfect). Without OTHER,
the sample images of scikit-image are fetched, and those of scikit-learn and matplotlib taken from their packages.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import covariance, metrics

from imaging import errors
from model.datasets import dataset
from model.inference import familiarity
from model.packaging import bundle as bundles
from model.preprocessing import decode
from model.training import crossvalidation, features, linear_head, references, trainer

FOLDS = 5
SAMPLES = {"sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(prog="benchmarks.familiarity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("other", type=Path, nargs="*", metavar="OTHER")
    args = parser.parse_args()
    bundle = bundles.load(args.bundle)
    photos = dataset.read([args.photos], bundle.preprocess)
    with tempfile.TemporaryDirectory() as scratch:
        folders = args.other or [*_installed_samples(), _fetch_samples(Path(scratch))]
        other_pixels = _decode_all(folders, bundle.preprocess)
    context = trainer.RunContext()
    photo_features = features.compute(bundle.network, photos, bundle.preprocess, context)
    other_features = features.compute(bundle.network, _as_dataset(photos, other_pixels), bundle.preprocess, context)
    print(f"{len(photos)} photos, {len(other_features)} other images; area under the ROC curve, mean of {FOLDS} folds")
    for name, areas in _compare(photos, photo_features, other_features).items():
        print(f"{name:36} {np.mean(areas):.4f}  (lowest fold {min(areas):.4f})")


def _compare(photos: dataset.ImageDataset, own: torch.Tensor, other: torch.Tensor) -> dict[str, list[float]]:
    areas: dict[str, list[float]] = {}
    for fold in crossvalidation.split(photos.targets, FOLDS, seed=0):
        others = np.setdiff1d(np.arange(len(photos)), fold)
        chosen = others[references.choose(photos.subset(others), seed=0)]
        unit = familiarity.normalize(own[chosen])
        gaussian = covariance.LedoitWolf().fit(own[others].numpy())
        data = linear_head.TrainingFeatures(
            own[others].numpy(), photos.targets[others], np.empty((0, own.shape[1]), np.float32), np.empty(0, np.int64)
        )
        head = linear_head.fit(data, 1e-2)
        rows = torch.cat([own[fold], other])
        logits = head.logits(rows.numpy())
        distances = familiarity.neighbor_distances(familiarity.normalize(rows), unit)
        scores = {
            f"{familiarity.NEIGHBOR}th nearest of {len(chosen)} photos": distances.numpy(),
            "Mahalanobis distance": gaussian.mahalanobis(rows.numpy()),
            "energy": -np.logaddexp.reduce(logits, axis=1),
            "confidence": -np.ptp(logits, axis=1),
        }
        is_other = np.arange(len(rows)) >= len(fold)
        for name, score in scores.items():
            areas.setdefault(name, []).append(float(metrics.roc_auc_score(is_other, score)))
    return areas


def _installed_samples() -> list[Path]:
    specs = {package: importlib.util.find_spec(package) for package in SAMPLES}
    return [Path(spec.origin).parent / SAMPLES[name] for name, spec in specs.items() if spec and spec.origin]


def _fetch_samples(folder: Path) -> Path:
    """Download the wheel of scikit-image and unpack its images."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "scikit-image"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("skimage/data/")]
        archive.extractall(folder, names)
    return folder / "skimage"


def _decode_all(folders: list[Path], preprocess: decode.Preprocess) -> Any:
    """Return the pixels of every image in some folders; other files are skipped."""
    pixels = []
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            pixels.append(preprocess.decode(path.read_bytes()))
        except errors.ImageDecodeError:
            continue
    if not pixels:
        sys.exit("OTHER has no images: give folders with images.")
    return np.stack(pixels)


def _as_dataset(photos: dataset.ImageDataset, pixels: Any) -> dataset.ImageDataset:
    count = len(pixels)
    empty = ("",) * count
    return dataset.ImageDataset(
        photos.labels, (Path(),) * count, empty, empty, np.zeros(count, np.int64), pixels, np.arange(count), "", ()
    )


if __name__ == "__main__":
    main()
