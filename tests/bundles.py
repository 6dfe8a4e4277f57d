"""Small real bundles for the tests: a network that was not trained, with weights by a seed."""

import dataclasses
import shutil

import torch

from jobs import settings
from model import bundle, classifier, manifest, networks, preprocess, selftest

NAME = "sushi-or-sandwich"  # the model that jobs get if they name none
LABELS = ("sandwich", "sushi")
OWN = bundle.load(settings.BUNDLES / NAME).version
"""The version of it that everybody has from the start; what tests add has two digits."""


def make(folder, version="12", *, name=NAME, labels=LABELS, size=32, seed=0, mean=0.0, always=None):
    """Write a bundle into a folder of its own below `folder`; the path.

    `always` is a label that it gives to every picture.
    """
    torch.manual_seed(seed)
    network = networks.build("cookpad-cnn", classes=len(labels), height=size, width=size)
    torch.nn.init.normal_(network[-1].weight, std=0.0 if always else 0.1)
    if always:
        network[-1].bias.data[labels.index(always)] = 2.0
    about = manifest.Manifest(
        name=name,
        version=version,
        network=manifest.Network("cookpad-cnn", len(labels), size, size),
        labels=tuple(labels),
        preprocess=preprocess.Preprocess(size, size, mean=(mean, mean, mean)),
        precision="float16",
        temperature=1.0,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.PICTURE, (1 / len(labels),) * len(labels), 0.001),
        metrics={"accuracy": 0.5},
    )
    answer = selftest.record(classifier.Classifier(bundle.rounded(network, about), "cpu", "float32"))
    path = folder / f"{name}-{version}"
    bundle.save(path, network, dataclasses.replace(about, selftest=answer), f"# {name} {version}\n")
    return path


def lying(folder, version="9", **more):
    """A bundle that is whole, and fails its self-test; the path."""
    path = make(folder, version, **more)
    about = manifest.read(path)
    promised = manifest.SelfTest(selftest.PICTURE, (0.99, *(0.01,) * (len(about.labels) - 1)), 0.001)
    manifest.write(path, dataclasses.replace(about, selftest=promised))
    return path


def files(path):
    """The files of a bundle: {name: bytes}."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


def copied(path, folder):
    """A copy of a bundle, to be broken."""
    return shutil.copytree(path, folder / "copy")
