"""Keeps training from a folder per class to a bundle, top to bottom.

python -m model.train DATA --out BUNDLE                      one data set
python -m model.train DATA --extra MORE --folds 5 --out B    more pictures, and honest figures
python -m model.train DATA --epochs 5 --out B                a quick look
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from model import bundle as bundles
from model import card, classifier, crossvalidation, fitting, manifest, selftest
from model import data as datasets
from model.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence

# The crops are cut from pictures of twice the size, so that a crop of a quarter of the area is still sharp.
DETAIL = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains and writes one bundle: 0 done, 1 the training failed, 2 usage or unusable data."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        saved = train(chosen)
    except fitting.Diverged as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    except (ValueError, OSError) as wrong:
        parser.error(str(wrong))
    sys.stdout.write(f"{chosen.out}: {saved.name} {saved.version}, digest {saved.digest}\n")
    return 0


def train(chosen: argparse.Namespace) -> bundles.Bundle:
    """Everything between the arguments and the bundle."""
    torch.set_num_threads(chosen.threads or torch.get_num_threads())
    # Averaged weights near zero become denormal numbers, which cost CPUs a hundred times the time.
    torch.set_flush_denormal(True)

    # What the network will see in service, and the larger pictures that training cuts its crops from.
    served = Preprocess(chosen.size, chosen.size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    large = dataclasses.replace(served, width=DETAIL * chosen.size, height=DETAIL * chosen.size)
    photos = _read(chosen.data, large)
    extra = _read(chosen.extra, large, photos.labels) if chosen.extra else None
    network = manifest.Network(chosen.network, len(photos.labels), chosen.size, chosen.size)
    recipe = fitting.Recipe(epochs=chosen.epochs, batch=chosen.batch, learning_rate=chosen.learning_rate)

    # The bundle's description comes first: a bad name should not cost a training. Temperature, figures and the
    # self-test's answer are filled in as they become known.
    about = manifest.Manifest(
        name=chosen.name or chosen.out.resolve().name,
        version=chosen.version,
        network=network,
        labels=photos.labels,
        preprocess=served,
        precision=chosen.precision,
        temperature=1.0,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.PICTURE, (0.0,) * len(photos.labels), selftest.TOLERANCE),
        data=_origin(photos, extra),
        recipe={**recipe.to_json(), "seed": chosen.seed, "threads": torch.get_num_threads()},
        libraries=_libraries(),
    )
    notes = chosen.notes.read_text("utf-8") if chosen.notes else ""

    # What the recipe is worth, and how confident it may be: only pictures that were held out can tell.
    if chosen.folds:
        shorter = dataclasses.replace(recipe, epochs=chosen.fold_epochs or recipe.epochs)
        seen = datasets.read(chosen.data, served, labels=photos.labels)
        held_out = crossvalidation.run(photos, seen, extra, network, served, shorter, chosen.folds, chosen.seed)
        _say(f"held out: {held_out.figures}, temperature {held_out.temperature:.3f}")
        figures = {"cross_validation": {"epochs": shorter.epochs, **held_out.figures}}
        about = dataclasses.replace(about, temperature=held_out.temperature, metrics=figures)

    # The weights that ship have seen every picture.
    everything = datasets.join(photos, extra) if extra else photos
    trained = fitting.fit(everything, network, served, recipe, chosen.seed, "all")

    # The self-test must know the weights as they are stored, that is after rounding.
    stored = bundles.rounded(trained, about)
    answer = selftest.record(classifier.Classifier(stored, "cpu", "float32"))
    about = dataclasses.replace(about, selftest=answer)
    return bundles.save(chosen.out, trained, about, card.render(about, notes))


def _read(folders: Sequence[Path], shape: Preprocess, labels: Sequence[str] | None = None) -> datasets.Photos:
    photos = datasets.read(folders, shape, labels=labels)
    for skipped in photos.skipped:
        _say(f"skipped {skipped.path}: {skipped.reason}")
    _say(f"read {len(photos)} pictures: {photos.counts()}")
    return photos


def _origin(photos: datasets.Photos, extra: datasets.Photos | None) -> dict[str, Any]:
    told: dict[str, Any] = {"pictures": photos.counts(), "fingerprint": photos.fingerprint}
    if extra:
        told |= {"extra_pictures": extra.counts(), "extra_fingerprint": extra.fingerprint}
    return told


def _libraries() -> dict[str, str]:
    names = ("torch", "numpy", "pillow", "safetensors")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="model.train", description="Trains a network on a folder per class.")
    default = fitting.Recipe()
    add = parser.add_argument
    add("data", type=Path, nargs="+", metavar="DATA", help="a folder with one sub-folder of pictures a class")
    add("--extra", type=Path, nargs="+", metavar="DATA", help="more of the same classes, never used to judge")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="the folder to write")
    add("--network", default="cookpad-cnn")
    add("--size", type=int, default=64, help="height and width of the network's input (64)")
    add("--name", help="the model's name (that of the folder)")
    add("--version", default="1", help="the model's version (1)")
    add("--epochs", type=_positive, default=default.epochs, help=f"({default.epochs})")
    add("--batch", type=_positive, default=default.batch, help=f"({default.batch})")
    add("--learning-rate", type=float, default=default.learning_rate, help=f"({default.learning_rate})")
    add("--folds", type=int, default=0, help="cross-validate first, and calibrate (0: neither)")
    add("--fold-epochs", type=_positive, help="epochs of each fold (those of the training)")
    add(
        "--precision",
        default="float16",
        choices=("float32", "float16", "bfloat16"),
        help="of the file (float16)",
    )
    add("--seed", type=int, default=0)
    add("--threads", type=_positive, help="CPU threads (all)")
    add("--notes", type=Path, metavar="FILE", help="Markdown for the end of the card")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
