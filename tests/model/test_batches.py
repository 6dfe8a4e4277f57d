"""An epoch shows every picture as often as its recipe says."""

import dataclasses

import pytest
import torch

from model import batches, data, recipe
from model.augment import Augment
from model.preprocess import Preprocess

SERVED = Preprocess(24, 24)
PLAIN = recipe.Recipe(epochs=4, batch=12, mixup=0.0, augment=Augment(min_area=1, max_stretch=1))


@pytest.fixture(scope="module")
def photos(shapes):
    return data.read([shapes], dataclasses.replace(SERVED, width=48, height=48))


def shown(photos, extra=None, **options):
    followed = dataclasses.replace(PLAIN, **options)
    return batches.Batches(photos, extra, SERVED, followed, torch.Generator().manual_seed(0), torch.device("cpu"))


def test_every_picture_is_shown_once_an_epoch_in_a_new_order(photos):
    every = shown(photos)

    first, second = every.order(0), every.order(1)

    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(60))
    assert not torch.equal(first, second)
    assert every.steps(0) == 5
    told = torch.cat([every.batch(0, step, first)[1] for step in range(5)]).argmax(dim=1)
    assert told.bincount().tolist() == [20, 20, 20]


@pytest.mark.parametrize(("batch", "steps"), [(7, 8), (50, 1), (60, 1), (61, 1), (2, 30)])
def test_no_batch_is_smaller_than_was_asked_for(photos, batch, steps):
    every = shown(photos, batch=batch)

    order = every.order(0)
    sizes = [len(every.batch(0, step, order)[0]) for step in range(every.steps(0))]

    assert len(sizes) == steps
    assert sum(sizes) == 60
    assert min(sizes) >= min(batch, 60)


def test_own_and_extra_pictures_are_shown_as_often_as_the_recipe_says(photos):
    every = shown(photos, photos, weight=2.5, extra_weight=0.25, extra_until=0.5)

    counts = torch.bincount(every.order(0), minlength=120)

    assert every.pictures(0) == 165
    assert set(counts[:60].tolist()) == {2, 3}
    assert int(counts[:60].sum()) == 150
    assert int(counts[60:].sum()) == 15
    assert every.pictures(2) == 150


def test_pictures_may_be_smaller_in_the_first_epochs(photos):
    every = shown(photos, sizes=((0.5, 16), (0.75, 20)))

    assert [every.size(epoch) for epoch in range(4)] == [(16, 16), (16, 16), (20, 20), (24, 24)]
    pictures, targets = every.batch(0, 0, every.order(0))
    assert pictures.shape == (12, 3, 16, 16)
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert targets.shape == (12, 3)


def test_from_the_same_state_come_the_same_batches(photos):
    every = shown(photos, mixup=0.3, cutmix=0.3, mix_chance=0.7)
    order, state = every.order(0), every.generator.get_state()
    first = every.batch(0, 2, order)

    every.generator.set_state(state)

    assert all(torch.equal(one, other) for one, other in zip(first, every.batch(0, 2, order), strict=True))
