"""Our own kernels compute what the network's layers do; Triton's interpreter runs them here without a GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model import blocks, networks
from model.preprocess import Preprocess

REPOSITORY = Path(__file__).parent.parent.parent
COMPARED = """
import torch
from model import blocks, inputs, networks
from model.preprocess import Preprocess
torch.set_num_threads(1)
torch.manual_seed(0)
network = networks.build("cookpad-cnn", classes=3, height=22, width=24).eval().requires_grad_(False)
for layer in network:
    if hasattr(layer, "bias"):
        torch.nn.init.normal_(layer.bias, std=0.1)
torch.nn.init.normal_(network[-1].weight, std=0.1)
how = Preprocess(24, 22, mean=(0.5, 0.4, 0.3), std=(0.25, 0.3, 0.2))
pixels = torch.randint(0, 256, (2, 22, 24, 3), dtype=torch.uint8)
expected = network(inputs.Normalise(how).pixels(pixels))
answer = blocks.Blocks(network, how, torch.device("cpu"), torch.float32)(pixels)
assert expected.abs().max() > 1
torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
print("the same")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
def test_they_compute_what_the_layers_compute():
    """With sides that are no powers of two, and every bias and mean another."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", COMPARED]
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    assert run.stdout == "the same\n", run.stderr


def test_another_network_is_left_to_torch():
    """It is asked before anything of a GPU is."""
    network = networks.build("residual", classes=2, height=64, width=64)

    assert blocks.fast(network, Preprocess(64, 64), torch.device("cuda")) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_where_they_cannot_be_had_torch_does_it_and_the_log_says_why(monkeypatch, caplog):
    """Here the card is missing; elsewhere it may be a compiler."""
    network = networks.build("cookpad-cnn", classes=2, height=64, width=64)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))

    assert blocks.fast(network, Preprocess(64, 64), torch.device("cuda")) is None
    assert "without our own kernels" in caplog.text


@pytest.mark.parametrize(("capability", "side"), [((7, 5), 64), ((9, 0), 256)])
def test_older_cards_and_larger_pictures_are_left_to_torch(monkeypatch, caplog, capability, side):
    """Those multiply no bfloat16, and of these a batch has more numbers than 32 bits count."""
    network = networks.build("cookpad-cnn", classes=2, height=side, width=side)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    assert blocks.fast(network, Preprocess(side, side), torch.device("cuda")) is None
    assert caplog.text == ""  # nothing was tried
