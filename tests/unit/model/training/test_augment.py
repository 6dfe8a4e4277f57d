"""Augmented images stay close to those of serving."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.training.augment import Augmentation, area_weights, mixup, resample

NO_CHANGE = Augmentation(min_area=1, max_stretch=1, brightness=0, contrast=0, saturation=0)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (6, 40, 48, 3), dtype=np.uint8))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_without_changes_the_result_is_that_of_serving_or_its_mirror_image(batch):
    images = NO_CHANGE(batch, 20, 16, seeded())

    assert images.shape == (6, 3, 20, 16)
    for source, image in zip(batch.numpy(), images.numpy(), strict=True):
        served = np.array(Image.fromarray(source).resize((16, 20), Image.Resampling.BOX)) / 255
        augmented = image.transpose(1, 2, 0)
        assert (
            min(np.abs(augmented - served).max(), np.abs(augmented[:, ::-1] - served).max()) <= 1 / 255
        )  # Pillow rounds after each of its two passes


def test_about_half_of_the_images_are_mirrored():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).view(1, 1, 32, 1).expand(400, 32, 32, 3)

    augmented = NO_CHANGE(ramp, 16, 16, seeded())

    mirrored = (augmented[:, 0, 0, 0] > augmented[:, 0, 0, -1]).float().mean()
    assert 0.4 < mirrored < 0.6


def test_a_crop_is_resampled_as_pillow_does():
    source = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    start, length = torch.tensor([0.15]), torch.tensor([0.6])
    weights = area_weights(start, length, 32, 8)

    augmented = resample(torch.from_numpy(source)[None, ..., None], weights, weights)[0, 0]

    box = (0.15 * 32, 0.15 * 32, 0.75 * 32, 0.75 * 32)
    expected = np.array(Image.fromarray(source.astype(np.float32)).resize((8, 8), Image.Resampling.BOX, box))
    # Pillow weighs whole pixels by their centres, we weigh the parts of them that the crop covers.
    assert np.abs(augmented.numpy() - expected).mean() < 20
    np.testing.assert_allclose(weights.sum(dim=2), 1, rtol=1e-5)


def test_augmented_images_stay_in_range_and_differ(batch):
    augmented = Augmentation()(batch, 16, 16, seeded())

    assert 0 <= float(augmented.min()) < float(augmented.max()) <= 1
    assert not torch.equal(augmented, Augmentation()(batch, 16, 16, seeded(1)))


def test_the_same_seed_makes_the_same_images(batch):
    assert torch.equal(Augmentation()(batch, 16, 16, seeded()), Augmentation()(batch, 16, 16, seeded()))


def test_mixup_blends_images_and_targets_alike():
    images, targets = torch.eye(4).view(4, 1, 2, 2), torch.eye(4)

    mixed, shares = mixup(images, targets, 0.5, seeded())

    assert torch.allclose(mixed.flatten(1), shares)
    assert torch.allclose(shares.sum(dim=1), torch.ones(4))
    assert not torch.equal(shares, targets)
