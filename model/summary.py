"""Print a network's layers as a Markdown table: `python -m model.summary NAME`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from model.networks import factory
from model.training import presets

if TYPE_CHECKING:
    from collections.abc import Sequence


class LayerRow(NamedTuple):
    """A layer's description, the shape of its output for one image, and its number of parameters."""

    layer: str
    output: str
    parameters: int


def layer_rows(network: nn.Module, *, height: int, width: int) -> list[LayerRow]:
    """Run a zero image through the network and return its layers in the order of execution.

    Like in publications, dropout is part of the layer before it, flatten of the layer after it, and the softmax of the
    last layer; activations are left out. Parameters outside these layers have a row of their own at the end.
    """
    rows: list[LayerRow] = []
    prefix = ""
    for layer, output, count in _trace_layers(network, height, width):
        if isinstance(layer, nn.Flatten):
            prefix = "flatten, "
        elif isinstance(layer, nn.Dropout):
            if layer.p and rows:
                rows[-1] = _append(rows[-1], f"dropout {layer.p:g}".replace("0.", "."))
        elif count or not type(layer).__module__.endswith("activation"):
            rows.append(LayerRow(prefix + _describe_layer(layer), output, count))
            prefix = ""
    rows[-1] = _append(rows[-1], "softmax")
    total = sum(parameter.numel() for parameter in network.parameters())
    rest = total - sum(row.parameters for row in rows)
    return [*rows, LayerRow("weights outside these layers", "", rest)] if rest else rows


def markdown_table(rows: Sequence[LayerRow]) -> str:
    """Format the rows and their total as a Markdown table."""
    cells = [("Layer", "Output", "Parameters"), *((row.layer, row.output, f"{row.parameters:,}") for row in rows)]
    cells.append(("total", "", f"{sum(row.parameters for row in rows):,}"))
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = [f"| {a:{widths[0]}} | {b:>{widths[1]}} | {c:>{widths[2]}} |" for a, b, c in cells]
    rule = f"|{'-' * (widths[0] + 2)}|{'-' * (widths[1] + 1)}:|{'-' * (widths[2] + 1)}:|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _append(row: LayerRow, text: str) -> LayerRow:
    return row._replace(layer=f"{row.layer}, {text}")


def _trace_layers(network: nn.Module, height: int, width: int) -> list[tuple[nn.Module, str, int]]:
    """Return each executed leaf with its output shape and its parameters, counting shared ones once."""
    traced: list[tuple[nn.Module, str, int]] = []
    seen_parameters: set[nn.Parameter] = set()

    def record_layer(layer: nn.Module, _: Any, output: Any) -> None:
        new = set(layer.parameters()) - seen_parameters
        seen_parameters.update(new)
        shape = (output if isinstance(output, torch.Tensor) else output[0]).shape[1:]
        traced.append((layer, "×".join(map(str, shape)), sum(parameter.numel() for parameter in new)))

    hooks = [layer.register_forward_hook(record_layer) for layer in _leaves(network)]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return traced


def _leaves(module: nn.Module) -> list[nn.Module]:
    """Return the modules without children; attention counts as one, because it calls no hooks of its children."""
    children = list(module.children())
    if not children or isinstance(module, nn.MultiheadAttention):
        return [module]
    return [leaf for child in children for leaf in _leaves(child)]


def _describe_layer(layer: nn.Module) -> str:
    text = str(layer).splitlines()[0]
    match layer:
        case nn.Conv2d():
            text = _describe_conv(layer)
        case nn.Linear():
            text = f"dense {layer.out_features}"
        case nn.MaxPool2d():
            text = f"max pool {layer.kernel_size}"
        case nn.AdaptiveAvgPool2d(output_size=1 | (1, 1)):
            text = "mean over all places"
        case nn.AdaptiveAvgPool2d():
            text = f"mean pool to {layer.output_size}"
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            text = "batch norm"
        case nn.LayerNorm():
            text = "layer norm"
        case nn.MultiheadAttention():
            text = f"attention, {layer.num_heads} heads"
    return text


def _describe_conv(layer: nn.Conv2d) -> str:
    kernel, stride = "×".join(map(str, layer.kernel_size)), layer.stride[0]
    is_valid = layer.padding in ("valid", (0, 0)) and layer.kernel_size != (1, 1)
    text = f"conv {kernel} {'valid' if is_valid else 'same'}{f' stride {stride}' if stride > 1 else ''}"
    return f"{text}, {layer.out_channels}{'' if layer.groups == 1 else f', {layer.groups} groups'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table: 0 done, 2 unknown network or a size that it cannot take."""
    parser = argparse.ArgumentParser(prog="model.summary", description="Print the layers of a network.")
    parser.add_argument("name", metavar="NAME", help="one of our own, or a classifier of torchvision or timm")
    parser.add_argument("--classes", type=int, default=2, help="number of classes (default: 2)")
    parser.add_argument("--size", type=int, help="height and width of the input (default: the network's own)")
    args = parser.parse_args(argv)
    try:
        side = args.size or presets.get_preset(args.name, pretrained=False).serving.width
        network = factory.build(args.name, classes=args.classes, height=side, width=side)
        table_text = markdown_table(layer_rows(network, height=side, width=side))
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"model.summary: {error}\n")
        return 2
    sys.stdout.write(table_text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
