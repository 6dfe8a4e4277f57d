"""The command line of `python -m model.train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.inference import devices
from model.training import method, recipe


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; its help lists the options of a recipe."""
    option_lines = [f"  {f'{name} ({default})':34}{text}" for name, default, text in recipe.list_options()]
    parser = argparse.ArgumentParser(
        prog="model.train",
        description="Train a network on a folder with one sub-folder per class, and write a bundle.",
        epilog="recipe options for --recipe and --set, with the defaults of most networks:\n" + "\n".join(option_lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="folder with one sub-folder per class")
    parser.add_argument(
        "--extra", type=Path, nargs="+", metavar="DATA", help="more training images, never evaluated on"
    )
    parser.add_argument(
        "--relabel", type=Path, metavar="FILE", help="CSV of sha256,label: these labels count, not the folders'"
    )
    _add_bundle(parser.add_argument_group("bundle"))
    _add_network(parser.add_argument_group("network"))
    _add_recipe(parser.add_argument_group("recipe, for a training by steps (defaults depend on the network)"))
    _add_evaluation(parser.add_argument_group("evaluation"))
    _add_run(parser.add_argument_group("run"))
    return parser


def _add_bundle(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    group.add_argument("--name", help="model name (default: the name of the folder)")
    group.add_argument("--version", default="1", help="model version (default: 1)")
    precisions = ("float32", "float16", "bfloat16")
    group.add_argument(
        "--precision", default="float16", choices=precisions, help="of stored weights (default: float16)"
    )
    group.add_argument("--notes", type=Path, metavar="FILE", help="Markdown to append to the model card")


def _add_network(group: argparse._ArgumentGroup) -> None:
    names = "cookpad-cnn, residual, efficientnet-lite0 to 2, or a classifier of torchvision or timm"
    defaults = f"{method.DEFAULT_NETWORK}, or {method.DEFAULT_FROM_SCRATCH} with options of the recipe"
    group.add_argument("--network", help=f"{names} (default: {defaults})")
    group.add_argument(
        "--weights",
        metavar="FILE",
        help='.safetensors file to start from, or "pretrained" for published weights (default for efficientnet-lite)',
    )
    group.add_argument(
        "--fine-tune", action="store_true", help="train the last stages too, not only a head on frozen weights"
    )
    group.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        metavar="BUNDLE",
        help="train on the predictions of larger networks (distillation)",
    )
    group.add_argument("--size", type=_positive_int, help="height and width of the input (default: the network's own)")


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=_positive_int, help="number of passes over the images")
    group.add_argument("--batch", type=_positive_int, help="images per step, 2 or more")
    group.add_argument("--learning-rate", type=float, help="peak learning rate")
    group.add_argument("--recipe", type=Path, metavar="FILE", help="JSON file with options, or a bundle's model.json")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set one option; repeatable")
    group.add_argument("--seed", type=_seed, default=0, help="same seed and machine: same weights (default: 0)")


def _add_evaluation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--folds", type=int, help="cross-validate and calibrate first (default: 5 for frozen weights, else 0, do not)"
    )
    group.add_argument("--compare", type=Path, metavar="BUNDLE", help="compare with a bundle on the held-out images")
    group.add_argument(
        "--held-out",
        type=Path,
        metavar="DATA",
        help="compare, or without folds evaluate and calibrate, on these images, which are never trained on",
    )
    group.add_argument("--fold-epochs", type=_positive_int, help="epochs per fold (default: those of the training)")


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume", action="store_true", help="continue an interrupted training if there is one")
    group.add_argument(
        "--keep-every", type=float, default=60, metavar="SECONDS", help="checkpoint interval (default: 60)"
    )
    group.add_argument("--log", type=Path, metavar="DIR", help="folder for curves.csv and .png (default: BUNDLE-log)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    choices = ("auto", *devices.DTYPES)
    group.add_argument("--arithmetic", default="auto", choices=choices, help="auto: bfloat16 if faster (default: auto)")
    group.add_argument("--threads", type=_positive_int, help="CPU threads (default: all)")


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"must be 0 to {2**32 - 1}, not {text}")
    return number


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number
