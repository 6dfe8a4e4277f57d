"""Training and serving preprocess an image alike."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.preprocessing import normalize
from model.training import augment, presets


@pytest.mark.parametrize("network", ["cookpad-cnn", "residual", "resnet18"])
def test_an_uncropped_image_is_the_same_in_training_and_serving(network, encode_image):
    preset = presets.get_preset(network, pretrained=False)
    serving = preset.serving_preprocess(32)
    training = presets.crop_preprocess(serving, 2.0)
    image = encode_image(Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)))
    no_change = augment.Augmentation(min_area=1, max_stretch=1, brightness=0, contrast=0, saturation=0)
    normalizer = normalize.Normalize(serving)

    trained = normalizer(
        no_change(torch.from_numpy(training.decode(image))[None], 32, 32, torch.Generator().manual_seed(0))
    )
    served = normalizer.from_uint8(torch.from_numpy(serving.decode(image))[None])

    difference = min(float((trained - view).abs().max()) for view in (served, served.flip(3)))
    assert difference < 3 / 255 / min(serving.std)


def test_the_size_is_the_networks_own_by_default():
    assert presets.get_preset("cookpad-cnn", pretrained=False).serving_preprocess(None).width == 64
    assert presets.get_preset("resnet18", pretrained=False).serving_preprocess(96).width == 96


@pytest.mark.parametrize(("side", "sides"), [(None, [96, 144]), (160, [96, 144]), (320, [192, 288]), (40, [32, 36])])
def test_the_smaller_images_of_a_recipe_follow_the_size(side, sides):
    """At 24 pixels nothing would be left after the network's pools."""
    recipe = presets.get_preset("residual", pretrained=False).recipe_at(side)

    assert [size for _, size in recipe.sizes] == sides


def test_fine_tuning_takes_smaller_steps():
    fresh, tuned = (presets.get_preset("resnet18", pretrained=pretrained).recipe for pretrained in (False, True))

    assert tuned.learning_rate < fresh.learning_rate
    assert tuned.epochs < fresh.epochs
