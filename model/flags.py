"""Keeps the command line of training: its flags, and the list of a recipe's options."""

from __future__ import annotations

import argparse
from pathlib import Path

from model import devices, recipe


def parser() -> argparse.ArgumentParser:
    """What `python -m model.train` takes."""
    options = "\n".join(f"  {f'{name} ({default})':34}{told}" for name, default, told in recipe.described())
    made = argparse.ArgumentParser(
        prog="model.train",
        description="Trains a network on a folder per class.",
        epilog=f"Options of a recipe, for --recipe and --set (where the network has no value of its own):\n{options}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("data", type=Path, nargs="+", metavar="DATA", help="a folder with a sub-folder for each class")
    made.add_argument("--extra", type=Path, nargs="+", metavar="DATA", help="more of the same, never used to judge")
    add = made.add_argument_group("the bundle").add_argument
    add("--out", type=Path, required=True, metavar="BUNDLE", help="the folder to write")
    add("--name", help="the model's name (that of the folder)")
    add("--version", default="1", help="the model's version (1)")
    add("--precision", default="float16", choices=("float32", "float16", "bfloat16"), help="of the file (float16)")
    add("--notes", type=Path, metavar="FILE", help="Markdown for the end of the card")
    add = made.add_argument_group("the network").add_argument
    add("--network", default="cookpad-cnn", help="cookpad-cnn, residual, or a classifier of torchvision (cookpad-cnn)")
    add("--weights", metavar="FILE", help="start from a .safetensors file, or from torchvision's own: pretrained")
    add("--size", type=_positive, help="height and width of its input (the network's own)")
    add = made.add_argument_group("the recipe (the network's own, unless changed)").add_argument
    add("--epochs", type=_positive, help="how often every picture is seen")
    add("--batch", type=_positive, help="pictures a step")
    add("--learning-rate", type=float, help="its greatest height")
    add("--recipe", type=Path, metavar="FILE", help="JSON with options, or a bundle's model.json")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="one option; may be repeated")
    add("--seed", type=int, default=0, help="of all chance: the same gives the same weights on the same machine (0)")
    add = made.add_argument_group("judging").add_argument
    add("--folds", type=int, default=0, help="cross-validate first, and calibrate (0: neither)")
    add("--fold-epochs", type=_positive, help="epochs of each fold (those of the training)")
    add = made.add_argument_group("the run").add_argument
    add("--resume", action="store_true", help="go on with what was stopped or killed, if there is something")
    add("--keep-every", type=float, default=60, metavar="SECONDS", help="what a kill may cost (60)")
    add("--log", type=Path, metavar="DIR", help="for curves.csv and curves.png (BUNDLE-log)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    add(
        "--arithmetic", default="auto", choices=("auto", *devices.PRECISIONS), help="bfloat16 where it is faster (auto)"
    )
    add("--threads", type=_positive, help="CPU threads (all)")
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number
