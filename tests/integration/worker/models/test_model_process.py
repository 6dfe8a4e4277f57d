"""A version in a process of its own."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

from model.networks import factory
from model.packaging import manifest
from model.preprocessing import decode
from tests.support import bundles
from worker.models import model_process


def test_a_network_that_needs_too_much_memory_is_rejected(tmp_path):
    """Its weights are small, its activations are not; this process goes on. One that fits, classifies until it dies."""
    path = bundles.make_bundle(tmp_path, size=32)
    process = model_process.ModelProcess(path, 2_000_000_000)
    probabilities = process.score(np.zeros((3, 32, 32, 3), np.uint8)).probabilities
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(manifest.InvalidBundle, match="died"):
        process.score(np.zeros((3, 32, 32, 3), np.uint8))
    process.close()
    grow(path, 9000)
    with pytest.raises(manifest.InvalidBundle, match=r"SORTBELT_MODEL_MEMORY_BYTES|needs too much memory"):
        model_process.ModelProcess(path, 2_000_000_000)


def test_a_stopped_process_fails_its_batch(tmp_path, monkeypatch):
    """It takes no batch that is larger than the buffer of its socket: the worker's thread waited for ever."""
    monkeypatch.setattr(model_process, "REPLY_SECONDS", 2.0)
    process = model_process.ModelProcess(bundles.make_bundle(tmp_path, size=32), 2_000_000_000)
    os.kill(process._process.pid, signal.SIGSTOP)
    with pytest.raises(manifest.InvalidBundle, match="stopped while waiting for a batch"):
        process.score(np.zeros((2_000, 32, 32, 3), np.uint8))
    process.close()


def grow(path, side):
    """Replace a bundle's network by one that takes images of any size, of this one."""
    old = manifest.read(path)
    network = factory.build("residual", classes=2, height=64, width=64)
    spec, preprocess = manifest.NetworkSpec("residual", 2, 64, 64), decode.Preprocess(64, 64)
    new = dataclasses.replace(old, network=spec, preprocess=preprocess)
    torch.manual_seed(0)
    bundles.bundle.save(path, network, new, "# Large\n")
    saved = manifest.read(path)
    large = dataclasses.replace(
        saved,
        network=dataclasses.replace(spec, height=side, width=side),
        preprocess=dataclasses.replace(preprocess, height=side, width=side),
    )
    manifest.write(path, large)
