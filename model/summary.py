"""Keeps the table of a network's layers: `python -m model.summary NAME`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from model import networks

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer: its place and kind, the shape of one picture's output, and how many numbers it learns."""

    layer: str
    output: str
    parameters: int


def rows(network: nn.Module, *, height: int, width: int) -> list[Row]:
    """The layers in the order in which a picture meets them, by running one through."""
    found: list[Row] = []

    def note(name: str, layer: nn.Module, output: Any) -> None:
        count = sum(parameter.numel() for parameter in layer.parameters())
        found.append(Row(f"{name} {layer}", "x".join(str(side) for side in output.shape[1:]), count))

    leaves = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    hooks = [
        layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
        for name, layer in leaves
    ]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return found


def table(found: Sequence[Row]) -> str:
    """The rows and their total as text."""
    total = Row("total", "", sum(row.parameters for row in found))
    wide = max(len(row.layer) for row in found)
    lines = [f"{row.layer:{wide}}  {row.output:>12}  {row.parameters:>12,}" for row in (*found, total)]
    return "\n".join([f"{'layer':{wide}}  {'output':>12}  {'parameters':>12}", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 2 for an unknown network."""
    parser = argparse.ArgumentParser(prog="model.summary", description="The layers of a network.")
    parser.add_argument("name", help="; ".join(sorted(networks.NETWORKS)))
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--size", type=int, default=64, help="height and width of its input (64)")
    chosen = parser.parse_args(arguments)
    try:
        network = networks.build(chosen.name, classes=chosen.classes, height=chosen.size, width=chosen.size)
    except ValueError as wrong:
        parser.error(str(wrong))
    sys.stdout.write(table(rows(network, height=chosen.size, width=chosen.size)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
