"""Minimum cost of a network per image: arithmetic and memory traffic; and what it really costs on a CPU.

`python -m benchmarks.network_cost BUNDLE NETWORK@SIDE ...` times networks as a worker runs them, in turns, one thread
each, and compares all with the first one. Networks that are not bundles get random weights, which cost the same.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import cpu_probe
from model.inference import classifier, selftest
from model.networks import factory
from model.packaging import bundle, manifest
from model.preprocessing import decode

BATCHES = (1, 16)
IMAGES_PER_TURN = 16


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one image; weights are not counted, because a batch shares them."""

    flops: float
    """Two per multiply-add, of the convolutions and the dense layers."""
    values_moved: float
    """Values read and written if each layer with weights reads its input once and writes its output once, and every
    other layer is fused into it."""


def measure(network: nn.Module, height: int, width: int) -> NetworkCost:
    """Return the cost of a network for an image of this size."""
    flops = values_moved = 0.0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal flops, values_moved
        flops += 2.0 * output.numel() * _multiplications_per_output(layer)
        values_moved += inputs[0].numel() + output.numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    parameter: Any = next(network.parameters())
    network(torch.zeros(1, 3, height, width, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    return NetworkCost(flops, values_moved)


def _multiplications_per_output(layer: nn.Module) -> int:
    """Return the number of products per output value."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
    assert isinstance(layer, nn.Linear)  # noqa: S101 (for the type checker)
    return layer.in_features


def load(name: str) -> bundle.Bundle:
    """Load a bundle, or build NETWORK@SIDE with random weights.

    Raises:
        ValueError: it is neither.
    """
    if Path(name).is_dir():
        return bundle.load(name)
    network_name, _, side = name.partition("@")
    if not side.isdecimal():
        raise ValueError(f"{name} is neither a bundle nor a network: give a folder, or NETWORK@SIDE as residual@160.")
    size = int(side)
    network = factory.build(network_name, classes=2, height=size, width=size).eval()
    return bundle.Bundle(
        manifest.Manifest(
            name=network_name,
            version="0",
            network=manifest.NetworkSpec(network_name, 2, size, size),
            labels=("a", "b"),
            preprocess=decode.Preprocess(size, size),
            precision="float32",
            temperature=1.0,
            digest=manifest.NO_DIGEST,
            selftest=manifest.SelfTest(selftest.IMAGE_NAME, (0.5, 0.5), selftest.TOLERANCE),
        ),
        network,
    )


def cpu_milliseconds(network: classifier.Classifier, batch: int) -> float:
    """Return the CPU time of one image in batches of this size."""
    preprocess = network.bundle.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (batch, preprocess.height, preprocess.width, 3), np.uint8)
    repeats = max(1, IMAGES_PER_TURN // batch)
    started = time.process_time()
    for _ in range(repeats):
        network.classify(pixels)
    return (time.process_time() - started) * 1000 / (repeats * batch)


def main(argv: Sequence[str] | None = None) -> int:
    """Time the networks and print a table of the fastest turns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_cost", description=__doc__)
    parser.add_argument("networks", nargs="+", metavar="BUNDLE|NETWORK@SIDE", help="the first one is the reference")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each network (default: 10)")
    parser.add_argument("--precision", default="auto", help="float32, bfloat16 or auto (default: auto)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    networks = {name: classifier.Classifier(load(name), "cpu", args.precision) for name in args.networks}
    times: dict[tuple[str, int], float] = {}
    with cpu_probe.CpuProbe() as probe:
        for _ in range(args.rounds):
            for name, network in networks.items():
                for batch in BATCHES:
                    times[name, batch] = min(times.get((name, batch), float("inf")), cpu_milliseconds(network, batch))
    reference = args.networks[0]
    print(f"ms of CPU per image, {networks[reference].precision}, one thread; alone, in batches of {BATCHES[1]}, ratio")
    for name in networks:
        alone, together = (times[name, batch] for batch in BATCHES)
        print(f"{name:40} {alone:8.2f} {together:8.2f} {together / times[reference, BATCHES[1]]:6.2f}")
    print(f"A fixed loop took {probe.median:.1f} ms of CPU during the run (benchmarks/cpu_probe.py).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
