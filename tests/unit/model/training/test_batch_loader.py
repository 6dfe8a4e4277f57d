"""Check that an epoch contains each image as often as the recipe says."""

import dataclasses

import pytest
import torch

from model.datasets import dataset
from model.preprocessing.decode import Preprocess
from model.training import batch_loader, recipe
from model.training.augment import Augmentation

SERVING = Preprocess(24, 24)
PLAIN = recipe.Recipe(epochs=4, batch=12, mixup=0.0, augment=Augmentation(min_area=1, max_stretch=1))


@pytest.fixture(scope="module")
def image_dataset(shapes_dir):
    return dataset.read([shapes_dir], dataclasses.replace(SERVING, width=48, height=48))


def make_loader(images, extra=None, **options):
    used_recipe = dataclasses.replace(PLAIN, **options)
    return batch_loader.BatchLoader(
        images, extra, SERVING, used_recipe, torch.Generator().manual_seed(0), torch.device("cpu")
    )


def test_every_image_is_shown_once_per_epoch_in_a_new_order(image_dataset):
    loader = make_loader(image_dataset)

    first, second = loader.order(0), loader.order(1)

    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(60))
    assert not torch.equal(first, second)
    assert loader.step_count(0) == 5
    targets = torch.cat([loader.batch(0, step, first)[1] for step in range(5)]).argmax(dim=1)
    assert targets.bincount().tolist() == [20, 20, 20]


@pytest.mark.parametrize(("batch", "steps"), [(7, 8), (50, 1), (60, 1), (61, 1), (2, 30)])
def test_no_batch_is_smaller_than_the_recipe_says(image_dataset, batch, steps):
    loader = make_loader(image_dataset, batch=batch)

    order = loader.order(0)
    sizes = [len(loader.batch(0, step, order)[0]) for step in range(loader.step_count(0))]

    assert len(sizes) == steps
    assert sum(sizes) == 60
    assert min(sizes) >= min(batch, 60)


def test_images_and_extra_images_are_shown_as_often_as_the_recipe_says(image_dataset):
    loader = make_loader(image_dataset, image_dataset, weight=2.5, extra_weight=0.25, extra_until=0.5)

    counts = torch.bincount(loader.order(0), minlength=120)

    assert loader.image_count(0) == 165
    assert set(counts[:60].tolist()) == {2, 3}
    assert int(counts[:60].sum()) == 150
    assert int(counts[60:].sum()) == 15
    assert loader.image_count(2) == 150


def test_an_epoch_has_two_images_or_more(image_dataset):
    """Batch norm cannot be trained on a batch of one."""
    loader = make_loader(image_dataset, weight=1e-6)

    assert len(loader.batch(0, 0, loader.order(0))[0]) == loader.image_count(0) == 2


def test_images_may_be_smaller_in_the_first_epochs(image_dataset):
    loader = make_loader(image_dataset, sizes=((0.5, 16), (0.75, 20)))

    assert [loader.image_size(epoch) for epoch in range(4)] == [(16, 16), (16, 16), (20, 20), (24, 24)]
    images, targets = loader.batch(0, 0, loader.order(0))
    assert images.shape == (12, 3, 16, 16)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert targets.shape == (12, 3)


def test_the_same_generator_state_gives_the_same_batches(image_dataset):
    loader = make_loader(image_dataset, mixup=0.3, cutmix=0.3, mix_chance=0.7)
    order, state = loader.order(0), loader.generator.get_state()
    first = loader.batch(0, 2, order)

    loader.generator.set_state(state)

    assert all(torch.equal(a, b) for a, b in zip(first, loader.batch(0, 2, order), strict=True))
