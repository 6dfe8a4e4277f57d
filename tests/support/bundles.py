"""Small real bundles for the tests: an untrained network with seeded random weights."""

import dataclasses

import torch

from core import settings
from model.inference import classifier, selftest
from model.networks import factory
from model.packaging import bundle, manifest
from model.preprocessing import decode

NAME = "sushi-or-sandwich"  # the default model of jobs
LABELS = ("sandwich", "sushi")
SHIPPED_VERSION = manifest.read(settings.BUNDLES_DIR / NAME).version
"""The version shipped with Sortbelt; versions that tests add have two digits."""


def make_bundle(folder, version="12", *, name=NAME, labels=LABELS, size=32, seed=0, mean=0.0, constant_label=None):
    """Write a bundle into a new subfolder of `folder`; return its path.

    With `constant_label`, it gives that label to every image.
    """
    torch.manual_seed(seed)
    network = factory.build("cookpad-cnn", classes=len(labels), height=size, width=size)
    torch.nn.init.normal_(network[-1].weight, std=0.0 if constant_label else 0.1)
    if constant_label:
        network[-1].bias.data[labels.index(constant_label)] = 2.0
    bundle_manifest = manifest.Manifest(
        name=name,
        version=version,
        network=manifest.NetworkSpec("cookpad-cnn", len(labels), size, size),
        labels=tuple(labels),
        preprocess=decode.Preprocess(size, size, mean=(mean, mean, mean)),
        precision="float16",
        temperature=1.0,
        digest=manifest.NO_DIGEST,
        selftest=manifest.SelfTest(selftest.IMAGE_NAME, (1 / len(labels),) * len(labels), 0.001),
        metrics={"accuracy": 0.5},
    )
    recorded = selftest.record(
        classifier.Classifier(bundle.round_to_stored(network, bundle_manifest), "cpu", "float32")
    )
    path = folder / f"{name}-{version}"
    bundle.save(path, network, dataclasses.replace(bundle_manifest, selftest=recorded), f"# {name} {version}\n")
    return path


def make_failing_bundle(folder, version="9", **options):
    """Write an intact bundle that fails its self-test; return its path."""
    path = make_bundle(folder, version, **options)
    bundle_manifest = manifest.read(path)
    wrong_selftest = manifest.SelfTest(selftest.IMAGE_NAME, (0.99, *(0.01,) * (len(bundle_manifest.labels) - 1)), 0.001)
    manifest.write(path, dataclasses.replace(bundle_manifest, selftest=wrong_selftest))
    return path


def read_files(path):
    """Return the files of a bundle: {name: bytes}."""
    return {file.name: file.read_bytes() for file in path.iterdir()}
