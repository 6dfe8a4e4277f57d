"""Keeps the table of a network's layers, in the form of publications: `python -m model.summary NAME`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from model import networks, presets

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer in words, the shape of one picture's output, and how many numbers it learns."""

    layer: str
    output: str
    parameters: int


def rows(network: nn.Module, *, height: int, width: int) -> list[Row]:
    """The layers in the order in which a picture meets them, by running one through.

    Dropout is told with the layer before it, Flatten with the one after it; activations are not told. The softmax is
    the classifier's, and told with the last layer. A weight that no layer of its own holds is told at the end.
    """
    met = _met(network, height, width)
    found: list[Row] = []
    begun = ""
    for layer, output, count in met:
        if isinstance(layer, nn.Flatten):
            begun = "flatten, "
        elif isinstance(layer, nn.Dropout):
            if not (layer.p and found):
                continue
            found[-1] = dataclasses.replace(
                found[-1], layer=f"{found[-1].layer}, dropout {layer.p:g}".replace("0.", ".")
            )
        elif count or not type(layer).__module__.endswith("activation"):
            found.append(Row(begun + _words(layer), output, count))
            begun = ""
    found[-1] = dataclasses.replace(found[-1], layer=f"{found[-1].layer}, softmax")
    others = sum(parameter.numel() for parameter in network.parameters()) - sum(row.parameters for row in found)
    return [*found, *([Row("weights outside these layers", "", others)] if others else [])]


def table(found: Sequence[Row]) -> str:
    """The rows and their total as a Markdown table."""
    cells = [("Layer", "Output", "Parameters")]
    cells += [(row.layer, row.output, f"{row.parameters:,}") for row in found]
    cells += [("total", "", f"{sum(row.parameters for row in found):,}")]
    first, second, third = (max(len(row[column]) for row in cells) for column in range(3))
    lines = [f"| {layer:{first}} | {output:>{second}} | {count:>{third}} |" for layer, output, count in cells]
    rule = f"|{'-' * (first + 2)}|{'-' * (second + 1)}:|{'-' * (third + 1)}:|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _met(network: nn.Module, height: int, width: int) -> list[tuple[nn.Module, str, int]]:
    """Each leaf that a picture met, with its output and the parameters that were not met before."""
    met: list[tuple[nn.Module, str, int]] = []
    seen: set[int] = set()

    def note(layer: nn.Module, _: Any, output: Any) -> None:
        new = {id(p): p.numel() for p in layer.parameters() if id(p) not in seen}
        seen.update(new)
        shape = (output if isinstance(output, torch.Tensor) else output[0]).shape[1:]
        met.append((layer, "×".join(str(side) for side in shape), sum(new.values())))

    hooks = [layer.register_forward_hook(note) for layer in _leaves(network)]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return met


def _leaves(module: nn.Module) -> list[nn.Module]:
    """The layers that are told: those without layers inside, and attention, which runs those inside it by itself."""
    inside = list(module.children())
    if not inside or isinstance(module, nn.MultiheadAttention):
        return [module]
    return [leaf for child in inside for leaf in _leaves(child)]


def _words(layer: nn.Module) -> str:
    for kind, words in _WORDS.items():
        if isinstance(layer, kind):
            return words(layer)
    return str(layer).splitlines()[0]


def _convolution(layer: nn.Conv2d) -> str:
    """Such as "conv 3×3 same, 32": padded ones are "same", others "valid"."""
    kernel, stride = "×".join(map(str, layer.kernel_size)), layer.stride[0]
    valid = layer.padding in ("valid", (0, 0)) and layer.kernel_size != (1, 1)
    padded = "valid" if valid else "same"
    grouped = "" if layer.groups == 1 else f", {layer.groups} groups"
    return f"conv {kernel} {padded}{f' stride {stride}' if stride > 1 else ''}, {layer.out_channels}{grouped}"


def _mean(layer: nn.Module) -> str:
    return "mean over all places" if layer.output_size in (1, (1, 1)) else f"mean pool to {layer.output_size}"


_WORDS: dict[type[nn.Module], Callable[[Any], str]] = {
    nn.Conv2d: _convolution,
    nn.Linear: lambda layer: f"dense {layer.out_features}",
    nn.MaxPool2d: lambda layer: f"max pool {layer.kernel_size}",
    nn.AdaptiveAvgPool2d: _mean,
    nn.BatchNorm1d: lambda _: "batch norm",
    nn.BatchNorm2d: lambda _: "batch norm",
    nn.LayerNorm: lambda _: "layer norm",
    nn.MultiheadAttention: lambda layer: f"attention, {layer.num_heads} heads",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 2 for an unknown network or a size that it cannot take."""
    parser = argparse.ArgumentParser(prog="model.summary", description="The layers of a network.")
    parser.add_argument("name", metavar="NAME", help="cookpad-cnn, residual, or a classifier of torchvision")
    parser.add_argument("--classes", type=int, default=2, help="(2)")
    parser.add_argument("--size", type=int, help="height and width of its input (the network's own)")
    chosen = parser.parse_args(arguments)
    try:
        side = chosen.size or presets.of(chosen.name, finetuned=False).size
        network = networks.build(chosen.name, classes=chosen.classes, height=side, width=side)
        told = table(rows(network, height=side, width=side))
    except (ValueError, RuntimeError) as wrong:
        sys.stderr.write(f"model.summary: {wrong}\n")
        return 2
    sys.stdout.write(told + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
