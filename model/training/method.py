"""Choose how to train: a linear head on frozen features, or a whole network by steps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from model.networks import efficientnet_lite, pretrained

if TYPE_CHECKING:
    import argparse

# The best one in cross-validation: docs/decisions/0032.
DEFAULT_NETWORK = "efficientnet-lite2"
DEFAULT_FROM_SCRATCH = "cookpad-cnn"
DEFAULT_FOLDS = 5
# The method in the manifest of a bundle with a head on frozen weights.
FROZEN = "linear head on frozen features"
# The options that only a training by steps has.
_STEP_OPTIONS = ("epochs", "batch", "learning_rate", "recipe", "set", "fold_epochs", "teacher")


@dataclasses.dataclass(frozen=True)
class Method:
    """The network, the weights to start from, if any, and whether they stay as they are."""

    network: str
    weights: str | None
    is_frozen: bool
    folds: int


def choose(args: argparse.Namespace) -> Method:
    """Return the method for some arguments.

    Weights to start from are frozen, unless the arguments have --fine-tune or options that only a training by steps
    has. Without --network, such options mean the published network from scratch.

    Raises:
        ValueError: the arguments contradict each other.
    """
    by_steps = args.fine_tune or any(getattr(args, name) for name in _STEP_OPTIONS)
    from_scratch = not args.fine_tune and (by_steps or args.weights not in (None, pretrained.PRETRAINED))
    network = args.network or (DEFAULT_FROM_SCRATCH if from_scratch else DEFAULT_NETWORK)
    weights = args.weights or (pretrained.PRETRAINED if network in efficientnet_lite.VARIANTS else None)
    if args.fine_tune and not weights:
        raise ValueError(
            f"--fine-tune needs weights to start from: add --weights pretrained, or leave it out for {network}."
        )
    is_frozen = bool(weights) and not by_steps
    if is_frozen and args.folds == 0:
        raise ValueError("--folds 0 cannot choose a head: leave it out, or give 2 or more.")
    folds = args.folds if args.folds is not None else DEFAULT_FOLDS if is_frozen else 0
    return Method(network, weights, is_frozen, folds)
