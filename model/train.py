"""Keeps training from a folder per class to a bundle, top to bottom.

python -m model.train DATA --out BUNDLE                      one data set
python -m model.train DATA --extra MORE --folds 5 --out B    more pictures, and honest figures
python -m model.train DATA --epochs 5 --out B                a quick look
python -m model.train ...the same as before... --resume      go on with what was stopped or killed
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from model import bundle as bundles
from model import (
    card,
    checkpoint,
    classifier,
    crossvalidation,
    curves,
    devices,
    fitting,
    flags,
    manifest,
    networks,
    presets,
    progress,
    recipe,
    selftest,
    stopping,
    training,
    zoo,
)
from model import data as datasets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from model.preprocess import Preprocess


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains and writes one bundle: 0 done, 1 the training failed, 2 usage or unusable data, 130 by ctrl-C."""
    chosen = flags.parser().parse_args(arguments)
    if chosen.out.name in ("", ".."):
        chosen.out = chosen.out.resolve()
    with stopping.listening() as wish:
        try:
            saved = train(chosen, wish)
        except training.Stopped:
            kept = _work_folder(chosen.out)
            told = f"{kept} holds what was learned: go on with --resume." if kept.exists() else "Nothing was begun yet."
            return _fail(f"Stopped. {told}", wish.code)
        except training.Diverged as wrong:
            return _fail(str(wrong), 1)
        except (MemoryError, torch.OutOfMemoryError):
            return _fail("There is not enough memory: choose a smaller --batch or --size.", 1)
        except OSError as wrong:
            return _fail(f"{wrong.filename or chosen.out}: {wrong.strerror or wrong}. Nothing is lost: --resume.", 1)
        except ValueError as wrong:
            return _fail(str(wrong), 2)
    sys.stdout.write(f"{chosen.out}: {saved.name} {saved.version}, digest {saved.digest}\n")
    return 0


def train(chosen: argparse.Namespace, wish: stopping.Wish) -> bundles.Bundle:
    """Everything between the arguments and the bundle."""
    torch.set_num_threads(chosen.threads or torch.get_num_threads())
    # Averaged weights near zero become denormal numbers, which cost CPUs a hundred times the time.
    torch.set_flush_denormal(True)
    watch = progress.on_stderr()
    device = devices.named(chosen.device)
    arithmetic = devices.arithmetic(chosen.arithmetic, device)
    bundles.check_replaceable(chosen.out)

    # What the network will see in service, and the larger pictures that training cuts its crops from.
    preset = presets.of(chosen.network, finetuned=bool(chosen.weights))
    followed = _recipe(chosen, preset)
    served = preset.served(chosen.size)
    large = presets.larger(served, followed.detail)
    read = functools.partial(_read, watch=watch, wish=wish, scratch=chosen.out.parent)
    photos = read(chosen.data, large)
    extra = read(chosen.extra, large, labels=photos.labels, without=photos.digests) if chosen.extra else None

    # The bundle's description comes first: a bad name should not cost a training. Temperature, figures and the
    # self-test's answer are filled in as they become known.
    ran = {
        "weights": _told(chosen.weights),
        "seed": chosen.seed,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "arithmetic": str(arithmetic).removeprefix("torch."),
    }
    about = manifest.Manifest(
        name=chosen.name or chosen.out.name,
        version=chosen.version,
        network=manifest.Network(
            chosen.network, len(photos.labels), served.height, served.width, followed.members, followed.mirrored
        ),
        labels=photos.labels,
        preprocess=served,
        precision=chosen.precision,
        temperature=1.0,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.PICTURE, (0.0,) * len(photos.labels), selftest.TOLERANCE),
        data=_origin(photos, extra),
        recipe={**followed.to_json(), **ran},
        libraries=_libraries(),
    )
    notes = _text(chosen.notes) if chosen.notes else ""
    networks.check(about.network, [(side, side) for _, side in followed.sizes])
    build = _builder(about.network, chosen.weights)

    if chosen.folds:
        crossvalidation.check(chosen.folds, photos)

    # From here on a kill costs a minute. A training goes on only with the very same plan.
    plan = {"data": about.data, "network": dataclasses.asdict(about.network), "recipe": about.recipe}
    plan |= {"folds": chosen.folds, "fold_epochs": chosen.fold_epochs, "libraries": about.libraries}
    begin = checkpoint.resume if chosen.resume and _work_folder(chosen.out).exists() else checkpoint.begin
    work = begin(_work_folder(chosen.out), plan, chosen.keep_every)
    curve = curves.Curves(chosen.log or chosen.out.with_name(f"{chosen.out.name}-log"))
    place = training.Place(device, arithmetic, work, curve, watch, wish)
    task = training.Task("all", build, photos, extra, served, followed, chosen.seed)

    # What the recipe is worth, and how confident it may be: only pictures that were held out can tell.
    if chosen.folds:
        shorter = dataclasses.replace(followed, epochs=chosen.fold_epochs or followed.epochs)
        seen = read(chosen.data, served, labels=photos.labels)
        held_out = crossvalidation.run(dataclasses.replace(task, recipe=shorter), seen, chosen.folds, place)
        watch.say(f"held out: {held_out.figures}, temperature {held_out.temperature:.3f}")
        figures = {"cross_validation": {"epochs": shorter.epochs, **held_out.figures}}
        about = dataclasses.replace(about, temperature=held_out.temperature, metrics=figures)
        task = dataclasses.replace(task, until=held_out.epoch if followed.early else None)

    # The weights that ship have seen every picture.
    trained = fitting.fit(task, place).network
    curve.draw()

    # The self-test must know the weights as they are stored, that is after rounding.
    stored = bundles.rounded(trained, about)
    answer = selftest.record(classifier.Classifier(stored, "cpu", "float32"))
    about = dataclasses.replace(about, selftest=answer)
    saved = bundles.save(chosen.out, trained, about, card.render(about, notes))
    work.remove()
    return saved


def _told(weights: str | None) -> str | None:
    """Which weights it started from: a file's digest, since its place means nothing elsewhere."""
    if weights in (None, zoo.PRETRAINED) or not Path(weights).is_file():
        return weights
    return f"{Path(weights).name}, SHA-256 {bundles.digest_of(Path(weights))}"


def _builder(network: manifest.Network, weights: str | None) -> Callable[[], nn.Module]:
    """Makes the network that is trained: fresh, in the form that learns best, or from the weights as they are."""
    arguments = {"classes": network.classes, "height": network.height, "width": network.width}
    if not weights:
        return lambda: networks.trainable(network.name, networks.build(network.name, **arguments))
    started = networks.build(network.name, **arguments)
    zoo.fill(started, zoo.weights(network.name, weights), network.classes)
    return lambda: copy.deepcopy(started)


def _recipe(chosen: argparse.Namespace, preset: presets.Preset) -> recipe.Recipe:
    """The preset's recipe, then the file's options, then --set, then the flags."""
    flags = {"epochs": chosen.epochs, "batch": chosen.batch, "learning_rate": chosen.learning_rate}
    followed = preset.recipe
    if chosen.recipe:
        followed = recipe.changed(followed, recipe.from_file(chosen.recipe))
    followed = recipe.changed(followed, recipe.from_settings(chosen.set))
    followed = recipe.changed(followed, {name: value for name, value in flags.items() if value is not None})
    if followed.early and chosen.folds and chosen.fold_epochs:
        raise recipe.BadRecipe("With --fold-epochs there is no early choice: leave it out, or --set early=false.")
    return followed


def _read(
    folders: Sequence[Path],
    shape: Preprocess,
    *,
    watch: progress.Watch,
    wish: stopping.Wish,
    scratch: Path,
    labels: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> datasets.Photos:
    def still_wanted(_done: int, _of: int) -> None:
        if wish():
            raise training.Stopped

    photos = datasets.read(folders, shape, labels=labels, without=without, scratch=scratch, progress=still_wanted)
    for skipped in photos.skipped:
        watch.say(f"skipped {skipped.path}: {skipped.reason}")
    watch.say(f"read {len(photos)} pictures: {photos.counts()}")
    return photos


def _origin(photos: datasets.Photos, extra: datasets.Photos | None) -> dict[str, Any]:
    told: dict[str, Any] = {"pictures": photos.counts(), "fingerprint": photos.fingerprint}
    if extra:
        told |= {"extra_pictures": extra.counts(), "extra_fingerprint": extra.fingerprint}
    return told


def _libraries() -> dict[str, str]:
    names = ("torch", "torchvision", "numpy", "pillow", "safetensors")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _work_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.training")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as wrong:
        raise ValueError(f"{path} cannot be read ({wrong}): give another file.") from wrong


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"model.train: {sentence}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
