"""Familiarity: like the training photos, or unlike them."""

import copy
import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch

from model.inference import familiarity
from model.inference.classifier import Classifier
from model.networks import factory
from model.packaging import bundle as bundles
from model.packaging import familiarity_file, manifest
from model.training import references


def make_familiarity(width, count=20, seed=0):
    """Return the file's content for random references."""
    generator = torch.Generator().manual_seed(seed)
    return familiarity_file.Familiarity(
        references=torch.randint(-127, 128, (count, width), dtype=torch.int8, generator=generator),
        distances=torch.linspace(0.1, 0.5, familiarity_file.QUANTILES),
        photos=torch.arange(2 * familiarity_file.DIGEST_BYTES, dtype=torch.uint8).view(2, -1),
        predicted=torch.tensor([0, -1], dtype=torch.int32),
    )


def test_it_is_the_share_of_held_out_photos_that_are_farther_away():
    """Distances between two percentiles are interpolated; beyond them it is 0 or 1."""
    references_at_axes = torch.eye(5, dtype=torch.int8) * 127
    scorer = familiarity.FamiliarityScorer(
        dataclasses.replace(make_familiarity(5), references=references_at_axes, distances=torch.linspace(0, 1, 101))
    )
    middle, axis = torch.ones(1, 5), torch.tensor([[9.0, 0, 0, 0, 0]])

    assert scorer(middle).item() == pytest.approx(1 / 5**0.5, abs=1e-3)  # one minus the distance, the cosine
    assert scorer(axis).item() == 0  # the fifth nearest is at a right angle
    assert scorer(torch.cat([middle, axis])).tolist() == pytest.approx([5**-0.5, 0], abs=1e-3)
    assert scorer(torch.full((1, 5), torch.nan)).isnan().all()


def test_held_out_photos_are_spread_evenly_and_other_ones_are_unfamiliar():
    """The references themselves are left out of their own distances."""
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(1, 64, generator=generator)
    photos, others = center + torch.randn(300, 64, generator=generator), torch.randn(50, 64, generator=generator)
    chosen = np.arange(0, 300, 3)
    distances = references.leave_one_out_distances(photos, chosen)
    digests = tuple(f"{number:064x}" for number in range(300))
    images = dataclasses.make_dataclass("Images", ["digests"])(digests)
    images.__class__.__len__ = lambda self: len(self.digests)

    content = references.describe(photos[chosen], distances, images, np.zeros(300, int), None)
    scorer = familiarity.FamiliarityScorer(content)

    new_photos = center + torch.randn(200, 64, generator=generator)
    assert 0.35 < scorer(new_photos).mean() < 0.65
    assert scorer(others).max() < 0.1


def test_a_bundle_with_familiarity_gives_the_same_probabilities(tmp_path, small_network, small_manifest, save_bundle):
    """The features come from the same pass; an older bundle has no familiarity."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 24, 24, 3), dtype=np.uint8)
    plain = bundles.load(save_bundle(tmp_path / "plain", small_network, small_manifest))
    bundles.save(tmp_path / "new", small_network, plain.manifest, "# Card\n", make_familiarity(1024))

    loaded = bundles.load(tmp_path / "new")
    old, new = Classifier(plain, "cpu", "float32").score(pixels), Classifier(loaded, "cpu", "float32").score(pixels)

    assert old.familiarity is None
    np.testing.assert_allclose(new.probabilities, old.probabilities, atol=1e-6)
    assert new.familiarity.shape == (7,)
    assert ((new.familiarity >= 0) & (new.familiarity <= 1)).all()
    assert loaded.digest == plain.digest


def test_an_ensemble_has_the_mean_features_of_its_members(small_network, small_manifest):
    """Of the image and its mirror image."""
    spec = dataclasses.replace(small_manifest.network, members=2, mirrored=True)
    network = factory.ensemble([small_network, copy.deepcopy(small_network)], mirrored=True)
    bundle = bundles.Bundle(dataclasses.replace(small_manifest, network=spec), network.eval(), make_familiarity(1024))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)

    scores = Classifier(bundle, "cpu", "float32").score(pixels)
    mirrored = Classifier(bundle, "cpu", "float32").score(pixels[:, :, ::-1].copy())

    np.testing.assert_allclose(scores.familiarity, mirrored.familiarity, atol=1e-4)


HOSTILE = {
    "no tensors": {},
    "another type": {"references": torch.zeros(3, 4)},
    "too many references": {"references": torch.zeros(5001, 1, dtype=torch.int8)},
    "no references": {"references": torch.zeros(0, 4, dtype=torch.int8)},
    "one dimension": {"references": torch.zeros(4, dtype=torch.int8)},
    "NaN": {"distances": torch.full((101,), torch.nan)},
    "descending": {"distances": torch.linspace(1, 0, 101)},
    "too few percentiles": {"distances": torch.linspace(0, 1, 100)},
    "a digest too long": {"photos": torch.zeros(2, 32, dtype=torch.uint8)},
    "fewer predictions than photos": {"predicted": torch.zeros(1, dtype=torch.int32)},
    "another name": {"weights": torch.zeros(1)},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_rejected(tmp_path, case):
    """Before its numbers are used."""
    intact = {name: getattr(make_familiarity(4), name) for name in ("references", "distances", "photos", "predicted")}
    tensors = intact | HOSTILE[case] if HOSTILE[case] else {}

    with pytest.raises(manifest.InvalidBundle, match="restore the bundle"):
        familiarity_file.decode(safetensors.torch.save(tensors), tmp_path / "familiarity.safetensors")


def test_bytes_that_are_not_safetensors_or_too_many_are_rejected(tmp_path, monkeypatch):
    with pytest.raises(manifest.InvalidBundle, match="restore the bundle"):
        familiarity_file.decode(b"\x80pickle", tmp_path / "f")
    monkeypatch.setattr(familiarity_file, "MAX_BYTES", 10)
    with pytest.raises(manifest.InvalidBundle, match="at most 10"):
        familiarity_file.decode(b"0" * 11, tmp_path / "f")


@pytest.mark.parametrize("change", [b"", b"x"])
def test_a_missing_or_changed_file_is_rejected(tmp_path, small_network, small_manifest, save_bundle, change):
    """Its digest is in the manifest."""
    plain = bundles.load(save_bundle(tmp_path / "b", small_network, small_manifest))
    bundles.save(tmp_path / "b", small_network, plain.manifest, "# Card\n", make_familiarity(1024))
    path = tmp_path / "b" / "familiarity.safetensors"
    path.write_bytes(path.read_bytes() + change) if change else path.unlink()

    with pytest.raises(manifest.InvalidBundle, match=r"familiarity.safetensors is (missing|not the file)"):
        bundles.load(tmp_path / "b")
