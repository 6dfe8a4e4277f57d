"""Training and serving agree on what a picture becomes."""

import numpy as np
import pytest
import torch
from PIL import Image

from model import augment, inputs, presets


@pytest.mark.parametrize("network", ["cookpad-cnn", "residual", "resnet18"])
def test_a_picture_that_is_not_cropped_is_the_same_in_training_and_in_service(network, encoded):
    preset = presets.of(network, finetuned=False)
    served = preset.served(32)
    large = presets.larger(served, 2.0)
    photo = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)))
    still = augment.Augment(min_area=1, max_stretch=1, brightness=0, contrast=0, saturation=0)
    normalise = inputs.Normalise(served)

    trained = normalise(still(torch.from_numpy(large.pixels(photo))[None], 32, 32, torch.Generator().manual_seed(0)))
    shown = normalise.pixels(torch.from_numpy(served.pixels(photo))[None])

    difference = min(float((trained - view).abs().max()) for view in (shown, shown.flip(3)))
    assert difference < 3 / 255 / min(served.std)


def test_the_size_is_the_networks_own_unless_it_is_chosen():
    assert presets.of("cookpad-cnn", finetuned=False).served(None).width == 64
    assert presets.of("resnet18", finetuned=False).served(96).width == 96


def test_fine_tuning_takes_smaller_steps():
    fresh, tuned = (presets.of("resnet18", finetuned=finetuned).recipe for finetuned in (False, True))

    assert tuned.learning_rate < fresh.learning_rate
    assert tuned.epochs < fresh.epochs
