"""A bundle survives a round trip to disk; an invalid one is rejected with a message that says what to do."""

import dataclasses
import hashlib
import pickle
import resource
import stat

import pytest
import safetensors.torch
import torch

from model.packaging import bundle as bundles
from model.packaging import manifest


def rewrite(folder, weights):
    """Replace a bundle's weights and update its digest."""
    data = weights if isinstance(weights, bytes) else safetensors.torch.save(weights)
    (folder / manifest.WEIGHTS_FILE).write_bytes(data)
    bundle_manifest = manifest.read(folder)
    manifest.write(folder, dataclasses.replace(bundle_manifest, digest=hashlib.sha256(data).hexdigest()))


def weights_of(folder):
    return safetensors.torch.load((folder / manifest.WEIGHTS_FILE).read_bytes())


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_bundle_comes_back_as_it_was_saved(tmp_path, small_network, small_manifest, precision):
    bundle_manifest = dataclasses.replace(small_manifest, precision=precision)

    saved = bundles.save(tmp_path / "b", small_network, bundle_manifest, "# Card\n")
    loaded = bundles.load(tmp_path / "b")

    assert loaded.manifest == saved.manifest
    assert loaded.digest == hashlib.sha256((tmp_path / "b" / manifest.WEIGHTS_FILE).read_bytes()).hexdigest()
    assert (loaded.name, loaded.version, loaded.labels) == ("shapes", "1", ("circle", "square", "stripes"))
    assert not loaded.network.training
    expected = bundles.round_to_stored(small_network, bundle_manifest).network.state_dict()
    for name, tensor in loaded.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("promise", [{"height": 1400, "width": 1400}, {"members": 10**9}, {"members": 7}])
def test_a_manifest_cannot_promise_more_than_the_weights(small_bundle, promise):
    """A network of 15.7 GB, a billion members: rejected by their shapes and number, before anything is allocated."""
    bundle_manifest = manifest.read(small_bundle)
    network = dataclasses.replace(bundle_manifest.network, name="cookpad-cnn", **promise)
    preprocess = dataclasses.replace(bundle_manifest.preprocess, height=network.height, width=network.width)
    manifest.write(small_bundle, dataclasses.replace(bundle_manifest, network=network, preprocess=preprocess))
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (6_000_000_000, limits[1]))
    try:
        with pytest.raises(manifest.InvalidBundle, match="does not fit"):
            bundles.load(small_bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def test_half_precision_halves_the_file(small_bundle, small_network):
    numbers = sum(tensor.numel() for tensor in small_network.state_dict().values())

    assert (small_bundle / manifest.WEIGHTS_FILE).stat().st_size < 2 * numbers + 2000


def test_a_bundle_is_readable_by_the_group(small_bundle):
    for file in small_bundle.iterdir():
        assert file.stat().st_mode & stat.S_IRGRP


def test_saving_again_replaces_the_whole_folder(small_bundle, small_network, small_manifest):
    (small_bundle / "stray.txt").write_text("old")

    bundles.save(small_bundle, small_network, dataclasses.replace(small_manifest, version="2"), "# Two\n")

    assert bundles.load(small_bundle).version == "2"
    assert sorted(file.name for file in small_bundle.iterdir()) == ["CARD.md", "model.json", "weights.safetensors"]
    assert [path.name for path in small_bundle.parent.iterdir()] == [small_bundle.name]


def test_a_save_that_fails_leaves_the_old_bundle(small_bundle, small_network, small_manifest):
    with torch.no_grad():
        small_network[0].weight.fill_(float("nan"))

    with pytest.raises(bundles.InvalidBundle, match="NaN"):
        bundles.save(small_bundle, small_network, small_manifest, "")

    assert bundles.load(small_bundle).name == "shapes"
    assert [path.name for path in small_bundle.parent.iterdir()] == [small_bundle.name]


def test_a_wrong_digest_is_rejected(small_bundle):
    weights = small_bundle / manifest.WEIGHTS_FILE
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    with pytest.raises(bundles.InvalidBundle, match="digest"):
        bundles.load(small_bundle)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_rejected_even_with_a_matching_digest(small_bundle, keep):
    rewrite(small_bundle, (small_bundle / manifest.WEIGHTS_FILE).read_bytes()[:keep])

    with pytest.raises(bundles.InvalidBundle, match="safetensors"):
        bundles.load(small_bundle)


def test_a_renamed_pickle_is_rejected_and_never_run(small_bundle, tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    rewrite(small_bundle, pickle.dumps(Harm()))

    with pytest.raises(bundles.InvalidBundle, match="safetensors"):
        bundles.load(small_bundle)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "model.pkl", "pytorch_model.bin"])
def test_pickled_weights_beside_the_others_are_rejected(small_bundle, name):
    (small_bundle / name).touch()

    with pytest.raises(bundles.InvalidBundle, match="remove it"):
        bundles.load(small_bundle)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_shape_are_rejected(small_bundle, change):
    weights = weights_of(small_bundle)
    if change == "missing":
        weights.pop("0.bias")
    else:
        weights["extra" if change == "extra" else "0.bias"] = torch.zeros(5)
    rewrite(small_bundle, weights)

    with pytest.raises(bundles.InvalidBundle, match="does not fit"):
        bundles.load(small_bundle)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_rejected(small_bundle, value):
    weights = weights_of(small_bundle)
    weights["2.bias"][3] = value
    rewrite(small_bundle, weights)

    with pytest.raises(bundles.InvalidBundle, match=r"NaN or infinity in 2\.bias"):
        bundles.load(small_bundle)


def test_integers_in_place_of_weights_are_rejected(small_bundle):
    weights = weights_of(small_bundle)
    weights["2.bias"] = weights["2.bias"].to(torch.int64)
    rewrite(small_bundle, weights)

    with pytest.raises(bundles.InvalidBundle, match="float16"):
        bundles.load(small_bundle)


def test_missing_weights_are_named(small_bundle):
    (small_bundle / manifest.WEIGHTS_FILE).unlink()

    with pytest.raises(bundles.InvalidBundle, match="missing"):
        bundles.load(small_bundle)


def test_an_unknown_network_is_rejected(small_bundle):
    bundle_manifest = manifest.read(small_bundle)
    other = dataclasses.replace(bundle_manifest.network, name="other-cnn")
    manifest.write(small_bundle, dataclasses.replace(bundle_manifest, network=other))

    with pytest.raises(bundles.InvalidBundle, match="other-cnn"):
        bundles.load(small_bundle)


def test_a_missing_folder_is_rejected(tmp_path):
    with pytest.raises(bundles.InvalidBundle, match="not a bundle"):
        bundles.load(tmp_path / "nothing")
