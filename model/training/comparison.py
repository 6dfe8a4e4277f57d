"""Compare a new model with another bundle on the same photos, each held out by both as far as that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from model.packaging import familiarity_file
from model.training.result import TrainingResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from model.datasets.dataset import ImageDataset
    from model.inference.classifier import Classifier
    from model.packaging.bundle import Bundle

BATCH_SIZE = 16


class Comparison(TypedDict):
    """The accuracy of both on `count` photos; `held_out_by_both` is false if the other one's photos are not known.

    `on_held_out_folder` says whether they are those of `--held-out`.
    """

    other: str
    count: int
    accuracy: float
    other_accuracy: float
    held_out_by_both: bool
    on_held_out_folder: bool


def check_comparable(images: ImageDataset, held_out: ImageDataset | None, folds: int, other: Classifier) -> None:
    """Check before a training that it can be compared.

    Args:
        images: the photos of the training.
        held_out: the photos of `--held-out`, if they are given.
        folds: the number of folds, 0 without cross-validation.
        other: the model to compare with.

    Raises:
        ValueError: nothing is held out, the labels differ, or no photo is held out by both.
    """
    if set(other.bundle.labels) != set(images.labels):
        labels = f"{', '.join(other.bundle.labels)} and {', '.join(images.labels)}"
        raise ValueError(f"The models cannot be compared, their labels are {labels}: leave out --compare.")
    stored = _stored_predictions(other.bundle)
    if held_out is not None:
        if all(_prefix(digest) in stored for digest in held_out.digests):
            problem = "The models cannot be compared, the other one was trained on all of --held-out"
            raise ValueError(f"{problem}: give others.")
    elif not folds:
        raise ValueError("--compare needs held-out images: give --folds 5.")
    elif not any(0 <= stored.get(_prefix(digest), 0) < len(images.labels) for digest in images.digests):
        raise ValueError("The models cannot be compared, the other one was trained on all images: add new ones.")


def compare(images: ImageDataset, trained: TrainingResult, other: Classifier) -> Comparison:
    """Compare on the photos of a training.

    The new model is evaluated by its cross-validation. A photo that the other one was trained on counts with the label
    that it got in the other one's cross-validation; all other photos are classified now.
    """
    assert trained.probabilities is not None  # noqa: S101 - `check_comparable` has checked that there are folds
    predicted, is_known = _predict(images, other)
    held_out = predicted >= 0
    is_right = trained.probabilities.argmax(axis=1) == images.targets
    other_is_right = predicted == images.targets
    return _compare_accuracy(other, is_right[held_out], other_is_right[held_out], held_out_by_both=is_known)


def compare_on(held_out: ImageDataset, new: Classifier, other: Classifier) -> Comparison:
    """Compare on photos that neither was trained on, as far as that is known: both classify them now.

    Photos that the other one was trained on are left out.
    """
    stored = _stored_predictions(other.bundle)
    is_new = np.array([_prefix(digest) not in stored for digest in held_out.digests])
    is_right = [_classify(held_out, np.flatnonzero(is_new), one) == held_out.targets[is_new] for one in (new, other)]
    return _compare_accuracy(other, *is_right, held_out_by_both=bool(stored), on_held_out_folder=True)


def _compare_accuracy(
    other: Classifier,
    is_right: npt.NDArray[np.bool_],
    other_is_right: npt.NDArray[np.bool_],
    *,
    held_out_by_both: bool,
    on_held_out_folder: bool = False,
) -> Comparison:
    return Comparison(
        other=f"{other.bundle.name}@{other.bundle.version}",
        count=len(is_right),
        accuracy=round(float(is_right.mean()), 4),
        other_accuracy=round(float(other_is_right.mean()), 4),
        held_out_by_both=held_out_by_both,
        on_held_out_folder=on_held_out_folder,
    )


def _predict(images: ImageDataset, other: Classifier) -> tuple[npt.NDArray[np.int64], bool]:
    """Return the other model's class of each photo, -1 if none is held out, and whether its photos are known."""
    stored = _stored_predictions(other.bundle)
    predicted = np.full(len(images), -1)
    new = [position for position, digest in enumerate(images.digests) if _prefix(digest) not in stored]
    predicted[new] = _classify(images, np.array(new, np.int64), other)
    own_index = _own_index(images, other)
    for position, digest in enumerate(images.digests):
        index = stored.get(_prefix(digest), -1)
        if 0 <= index < len(own_index):
            predicted[position] = own_index[index]
    return predicted, bool(stored)


def _classify(images: ImageDataset, positions: npt.NDArray[np.int64], classifier: Classifier) -> npt.NDArray[np.int64]:
    """Return the class of each image at some positions, decoded as the classifier needs it."""
    own_index, predicted = _own_index(images, classifier), [np.empty(0, np.int64)]
    for start in range(0, len(positions), BATCH_SIZE):
        paths = [images.paths[position] for position in positions[start : start + BATCH_SIZE]]
        pixels = np.stack([classifier.bundle.preprocess.decode(path.read_bytes()) for path in paths])
        predicted.append(own_index[classifier.classify(pixels).argmax(axis=1)])
    return np.concatenate(predicted)


def _own_index(images: ImageDataset, classifier: Classifier) -> npt.NDArray[np.int64]:
    """Return the index in the images' labels of each label of the classifier."""
    return np.array([images.labels.index(label) for label in classifier.bundle.labels])


def _stored_predictions(bundle: Bundle) -> dict[bytes, int]:
    """Return the class that each training photo of a bundle got when it was held out, -1 if it never was."""
    if not bundle.familiarity:
        return {}
    prefixes = (bytes(row) for row in bundle.familiarity.photos.numpy())
    return dict(zip(prefixes, bundle.familiarity.predicted.tolist(), strict=True))


def _prefix(digest: str) -> bytes:
    return bytes.fromhex(digest)[: familiarity_file.DIGEST_BYTES]
