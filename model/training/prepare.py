"""Prepare a training: resolve the recipe, read the images, describe the bundle, open the checkpoints."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model.datasets import corrections
from model.datasets import dataset as datasets
from model.inference import devices, selftest
from model.networks import factory, pretrained
from model.packaging import atomic_files, manifest
from model.packaging import bundle as bundles
from model.training import (
    checkpoint,
    comparison,
    crossvalidation,
    distillation,
    fine_tune,
    learning_curves,
    near_duplicates,
    presets,
    progress,
    trainer,
    views,
)
from model.training import method as methods
from model.training import recipe as recipes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from torch import nn

    from model.datasets.dataset import ImageDataset
    from model.inference.classifier import Classifier
    from model.packaging.bundle import Bundle
    from model.preprocessing.decode import Preprocess
    from model.training.graceful_stop import StopFlag
    from model.training.recipe import Recipe

MIN_CLASS_IMAGES = 5
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "safetensors")


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """Everything that a training needs.

    `serving_images` are the images of `task`, preprocessed as in serving; they are read for cross-validation only.
    `held_out` are the images of `--held-out`.
    Temperature, metrics and self-test of the manifest are placeholders until they are known.
    """

    method: methods.Method
    task: trainer.TrainingTask
    context: trainer.RunContext
    manifest: manifest.Manifest
    notes: str
    serving_images: ImageDataset | None
    held_out: ImageDataset | None


def prepare(args: argparse.Namespace, stop_requested: StopFlag, other: Classifier | None = None) -> PreparedRun:
    """Check all arguments and read the images, so that a mistake does not surface after the training.

    Args:
        args: the arguments of the command.
        stop_requested: returns whether to stop.
        other: the model of `--compare`.

    Raises:
        ValueError: an argument or a data set is invalid.
        trainer.TrainingStopped: `stop_requested` returned true.
    """
    _configure_torch(args.threads)
    bundles.check_overwritable(args.out)
    for folder in (args.out.parent, log_folder(args)):
        atomic_files.check_creatable(folder)
    method = methods.choose(args)
    device = devices.resolve_device(args.device)
    dtype = devices.resolve_dtype(args.arithmetic, device)
    teachers = [bundles.load(folder) for folder in args.teacher or []]
    preset = presets.get_preset(method.network, pretrained=bool(method.weights), distilled=bool(teachers))
    recipe = _resolve_recipe(args, method, preset)
    serving = preset.serving_preprocess(args.size)
    reporter = progress.reporter_for_stderr()
    training = _training_preprocess(method, serving, recipe, teachers)
    images, serving_images, extra = _read_images(args, method, training, serving, reporter, stop_requested)
    _check_class_sizes(images)

    held_out = _read_held_out(args, method, [images, extra] if extra else [images], [training, serving], reporter)
    if other:
        comparison.check_comparable(images, held_out, method.folds, other)

    run_fields = _describe_run(args, method, teachers, device, dtype)
    recipe_fields = {"method": methods.FROZEN} if method.is_frozen else recipe.to_json()
    bundle_manifest = _describe_bundle(args, method, images, extra, serving, {**recipe_fields, **run_fields})
    factory.check_input_sizes(bundle_manifest.network, [(side, side) for _, side in recipe.sizes])
    if method.folds:
        crossvalidation.check_fold_count(method.folds, images)
    distillation.check_teachers(teachers, images.labels, is_evaluated=bool(method.folds or held_out))
    notes = _read_text(args.notes) if args.notes else ""
    build_network = _network_builder(bundle_manifest.network, method.weights)

    curves = learning_curves.LearningCurves(log_folder(args))
    checkpoints = None if method.is_frozen else _open_checkpoints(args, method, bundle_manifest)
    context = trainer.RunContext(device, dtype, checkpoints, curves, reporter, stop_requested)
    task = trainer.TrainingTask("all", build_network, images, extra, serving, recipe, args.seed)
    adaptations = []
    if teachers:
        adaptations.append(distillation.prepare(teachers, task, context, args.out.parent).adapt)
    if args.fine_tune:
        adaptations.append(fine_tune.adapt)
    task = dataclasses.replace(task, adaptations=adaptations)
    return PreparedRun(method, task, context, bundle_manifest, notes, serving_images, held_out)


def log_folder(args: argparse.Namespace) -> Path:
    """Return the folder of the curves and the report."""
    folder: Path = args.log or args.out.with_name(f"{args.out.name}-log")
    return folder


def checkpoint_folder(out: Path) -> Path:
    """Return the checkpoint folder of a bundle."""
    return out.with_name(f"{out.name}.training")


def _configure_torch(threads: int | None) -> None:
    torch.set_num_threads(threads or torch.get_num_threads())
    # Averaged weights near zero become denormal numbers, a hundred times slower on CPUs.
    torch.set_flush_denormal(True)


def _check_class_sizes(images: ImageDataset) -> None:
    """Raise InvalidDataset if a class has too few images to learn from and to evaluate."""
    small = [f"{label} has {count}" for label, count in images.class_counts().items() if count < MIN_CLASS_IMAGES]
    if small:
        skipped = f" ({len(images.skipped)} files were skipped)" if images.skipped else ""
        problem = f"Too few usable images: {_shorten_list(small)}{skipped}"
        raise datasets.InvalidDataset(f"{problem}; add images, at least {MIN_CLASS_IMAGES} of each class.")


def _shorten_list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def _resolve_recipe(args: argparse.Namespace, method: methods.Method, preset: presets.Preset) -> Recipe:
    """Apply the recipe file, then --set, then the flags to the preset's recipe at --size."""
    flags = {"epochs": args.epochs, "batch": args.batch, "learning_rate": args.learning_rate}
    recipe = recipes.with_overrides(preset.recipe_at(args.size), recipes.from_file(args.recipe) if args.recipe else {})
    recipe = recipes.with_overrides(recipe, recipes.parse_assignments(args.set))
    recipe = recipes.with_overrides(recipe, {name: value for name, value in flags.items() if value is not None})
    if recipe.early and method.folds and args.fold_epochs:
        problem = "--fold-epochs cannot be combined with early stopping"
        raise recipes.InvalidRecipe(f"{problem}: leave it out, or give --set early=false.")
    return recipe


def _training_preprocess(
    method: methods.Method, serving: Preprocess, recipe: Recipe, teachers: Sequence[Bundle]
) -> Preprocess:
    """Return the preprocessing of the images that crops are cut from; frozen weights are trained without crops."""
    if method.is_frozen:
        return serving
    return views.source_preprocess(teachers) if teachers else presets.crop_preprocess(serving, recipe.detail)


def _read_images(
    args: argparse.Namespace,
    method: methods.Method,
    training: Preprocess,
    serving: Preprocess,
    reporter: progress.ProgressReporter,
    stop_requested: StopFlag,
) -> tuple[ImageDataset, ImageDataset | None, ImageDataset | None]:
    """Return the images for training, the same as in serving (if there are folds), and the extra images."""
    corrected = corrections.read(args.relabel) if args.relabel else {}

    def check_stop() -> None:
        if stop_requested():
            raise trainer.TrainingStopped

    def read(folders: Sequence[Path], preprocesses: Sequence[Preprocess], **options: Any) -> list[ImageDataset]:
        read_datasets = datasets.read_each(
            folders, preprocesses, corrected=corrected, scratch_dir=args.out.parent, on_image=check_stop, **options
        )
        _report_skipped(read_datasets[0], reporter)
        if args.relabel:
            reporter.message(f"labels corrected by {args.relabel}: {read_datasets[0].relabelled}")
        reporter.message(f"read {len(read_datasets[0])} images: {read_datasets[0].class_counts()}")
        return read_datasets

    with_serving = method.folds and not method.is_frozen
    images, *serving_images = read(args.data, [training, serving] if with_serving else [training])
    extra = None
    if args.extra:
        (with_copies,) = read(args.extra, [training], labels=images.labels, exclude=[images])
        extra = with_copies.subset(_find_new(with_copies, [images], reporter))
    return images, serving_images[0] if serving_images else None, extra


def _report_skipped(images: ImageDataset, reporter: progress.ProgressReporter) -> None:
    for skipped in images.skipped:
        reporter.message(f"skipped {skipped.path}: {skipped.reason}")


def _find_new(
    images: ImageDataset, others: Sequence[ImageDataset], reporter: progress.ProgressReporter
) -> npt.NDArray[np.int64]:
    """Return the positions of the images that are not copies of others, and report the copies."""
    is_copy = np.any([near_duplicates.have_copies(images, each) for each in others], axis=0)
    for position in np.flatnonzero(is_copy):
        reporter.message(f"skipped {images.paths[position]}: it looks like an image of DATA or --extra")
    return np.flatnonzero(~is_copy)


def _read_held_out(
    args: argparse.Namespace,
    method: methods.Method,
    trained_on: Sequence[ImageDataset],
    preprocesses: Sequence[Preprocess],
    reporter: progress.ProgressReporter,
) -> ImageDataset | None:
    """Return the images of --held-out as in serving, without those that are trained on and their copies.

    `preprocesses` are those of training and of serving.
    """
    if not args.held_out:
        return None
    if method.folds and not args.compare:
        raise ValueError("--held-out is for a comparison, or for a training without folds: give --compare BUNDLE too.")
    as_trained, as_served = datasets.read_each(
        [args.held_out],
        preprocesses,
        labels=trained_on[0].labels,
        allow_missing=True,
        exclude=trained_on,
        scratch_dir=args.out.parent,
    )
    _report_skipped(as_trained, reporter)
    held_out = as_served.subset(_find_new(as_trained, trained_on, reporter))
    if not len(held_out):
        raise datasets.InvalidDataset("Every image of --held-out is trained on: give others.")
    if not method.folds:
        _check_class_sizes(held_out)
    return held_out


def _describe_bundle(
    args: argparse.Namespace,
    method: methods.Method,
    images: ImageDataset,
    extra: ImageDataset | None,
    serving: Preprocess,
    recipe: dict[str, Any],
) -> manifest.Manifest:
    classes = len(images.labels)
    data: dict[str, Any] = {"images": images.class_counts(), "fingerprint": images.fingerprint}
    if args.relabel:
        data["relabelled"] = images.relabelled
    if extra:
        data |= {"extra_images": extra.class_counts(), "extra_fingerprint": extra.fingerprint}
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return manifest.Manifest(
        name=args.name or args.out.name,
        version=args.version,
        network=manifest.NetworkSpec(
            method.network,
            classes,
            serving.height,
            serving.width,
            recipe.get("members", 1),
            recipe.get("mirrored", False),
        ),
        labels=images.labels,
        preprocess=serving,
        precision=args.precision,
        temperature=1.0,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.IMAGE_NAME, (0.0,) * classes, selftest.TOLERANCE),
        data=data,
        recipe=recipe,
        libraries={"python": platform.python_version(), **versions},
    )


def _describe_run(
    args: argparse.Namespace,
    method: methods.Method,
    teachers: Sequence[Bundle],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Any]:
    return {
        "weights": _describe_weights(method),
        **({"fine_tuned": True} if args.fine_tune else {}),
        **(
            {"teachers": [f"{each.name} {each.version}, digest {each.digest}" for each in teachers]} if teachers else {}
        ),
        "seed": args.seed,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "arithmetic": str(dtype).removeprefix("torch."),
    }


def _describe_weights(method: methods.Method) -> str | None:
    """Describe the initial weights: published ones by origin and licence, a file by its name and digest."""
    weights = method.weights
    if weights == pretrained.PRETRAINED:
        return f"{weights}: {pretrained.describe_origin(method.network)}"
    if weights is None or not Path(weights).is_file():
        return weights
    return f"{Path(weights).name}, SHA-256 {atomic_files.sha256_file(Path(weights))}"


def _network_builder(spec: manifest.NetworkSpec, weights: str | None) -> Callable[[], nn.Module]:
    """Return a function that builds the network to train: in its training form, or from given weights."""
    dimensions = {"classes": spec.classes, "height": spec.height, "width": spec.width}
    if not weights:
        return lambda: factory.training_form(spec.name, factory.build(spec.name, **dimensions))
    pretrained_network = factory.build(spec.name, **dimensions)
    pretrained.load_into(pretrained_network, pretrained.load_weights(spec.name, weights), spec.classes)
    return lambda: copy.deepcopy(pretrained_network)


def _open_checkpoints(
    args: argparse.Namespace, method: methods.Method, bundle_manifest: manifest.Manifest
) -> checkpoint.CheckpointStore:
    """Resume or create the checkpoint folder; only a training with the same plan may be resumed."""
    plan = {
        "data": bundle_manifest.data,
        "network": dataclasses.asdict(bundle_manifest.network),
        "recipe": bundle_manifest.recipe,
        "folds": method.folds,
        "fold_epochs": args.fold_epochs,
        "libraries": bundle_manifest.libraries,
    }
    folder = checkpoint_folder(args.out)
    open_folder = checkpoint.resume if args.resume and folder.exists() else checkpoint.create
    return open_folder(folder, plan, args.keep_every)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): give another file.") from error
