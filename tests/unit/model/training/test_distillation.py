"""A student learns from teachers that never saw the images it is evaluated on."""

import dataclasses

import numpy as np
import pytest
import torch

from model import train
from model.datasets import dataset
from model.networks import factory, pretrained
from model.packaging import bundle as bundles
from model.packaging import manifest
from model.preprocessing.decode import Preprocess
from model.training import augment, distillation, fit, method, recipe, trainer, views

pytestmark = pytest.mark.slow

STUDENT = Preprocess(24, 24, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
RECIPE = recipe.Recipe(epochs=2, batch=16, mixup=0.2, weight=2.0, views=3, augment=augment.Augmentation(min_area=0.7))


@pytest.fixture
def teacher_dir(tmp_path, save_bundle, small_manifest):
    """Save an untrained network with a head on frozen features."""
    spec = manifest.NetworkSpec("residual", 3, 32, 32)
    teacher = dataclasses.replace(
        small_manifest, network=spec, preprocess=Preprocess(32, 32), recipe={"method": method.FROZEN}
    )
    torch.manual_seed(0)
    return save_bundle(tmp_path / "teacher", factory.build("residual", classes=3, height=32, width=32), teacher)


@pytest.fixture
def task(shapes_dir, teacher_dir):
    def build():
        return factory.build("cookpad-cnn", classes=3, height=24, width=24)

    images = dataset.read([shapes_dir], views.source_preprocess([bundles.load(teacher_dir)]))
    return trainer.TrainingTask("shapes", build, images, None, STUDENT, RECIPE, seed=0)


@pytest.fixture
def prepared(teacher_dir, task, tmp_path):
    return distillation.prepare([bundles.load(teacher_dir)], task, trainer.RunContext(), tmp_path)


def separable(prepared, wrong=()):
    """Give every image features that show its class; the labels of some images are then wrong."""
    images = prepared.views.images
    features = np.eye(3, dtype=np.float32)[images.targets][:, None].repeat(3, axis=1)
    features = features + np.random.default_rng(0).normal(0, 0.1, features.shape).astype(np.float32)
    targets = images.targets.copy()
    targets[list(wrong)] = (targets[list(wrong)] + 1) % 3
    mended = dataclasses.replace(images, targets=targets)
    return distillation.Distillation(
        dataclasses.replace(prepared.views, images=mended, features=features), None
    ), mended


def test_a_student_is_trained_on_the_views_with_the_teachers_answers(prepared, task):
    """An epoch shows as many images as before; nothing but mirroring is left to do at random."""
    adapted = prepared.adapt(task, trainer.RunContext())

    assert len(adapted.images) == 3 * len(task.images)
    assert adapted.images.pixels_at(slice(0, 3)).shape == (3, 24, 24, 3)
    np.testing.assert_allclose(adapted.images.soft_targets.sum(axis=1), 1, rtol=1e-5)
    assert adapted.images.target_probabilities(np.array([4])).shape == (1, 3)
    assert adapted.recipe.weight * len(adapted.images) == pytest.approx(2 * len(task.images))
    network = fit.fit(dataclasses.replace(task, adaptations=[prepared.adapt]), trainer.RunContext()).network
    assert network(torch.zeros(1, 3, 24, 24)).shape == (1, 3)


def test_views_of_other_images_are_left_out(prepared, task):
    """A fold's training sees the views of its own images only, each with the pixels of its image."""
    kept = task.images.subset(np.arange(0, 60, 2))
    adapted = prepared.adapt(dataclasses.replace(task, images=kept), trainer.RunContext())

    assert set(adapted.images.digests) == set(kept.digests)
    np.testing.assert_array_equal(adapted.images.pixels_at(slice(3, 6)), prepared.views.pixels[2])


def test_a_wrong_label_is_outvoted(prepared, task):
    """An image's answer comes from heads that were fitted without it."""
    wrong = [3, 25, 44]
    teachers, images = separable(prepared, wrong)
    truth = np.repeat(task.images.targets, 3)

    adapted = teachers.adapt(dataclasses.replace(task, images=images), trainer.RunContext())

    assert (adapted.images.targets != truth).sum() == 3 * len(wrong)
    assert (adapted.images.soft_targets.argmax(axis=1) == truth).all()


def test_a_view_and_its_features_are_the_teachers_own(prepared, teacher_dir, task, tmp_path):
    """Rendered again with the same seed, they are the same; another seed gives others."""
    again = distillation.prepare([bundles.load(teacher_dir)], task, trainer.RunContext(), tmp_path)
    other = distillation.prepare(
        [bundles.load(teacher_dir)], dataclasses.replace(task, seed=5), trainer.RunContext(), tmp_path
    )

    np.testing.assert_array_equal(again.views.pixels, prepared.views.pixels)
    np.testing.assert_array_equal(again.views.features, prepared.views.features)
    assert prepared.views.features.shape == (60, 3, 256)
    assert (other.views.pixels != prepared.views.pixels).any()
    assert len(np.unique(prepared.views.pixels[0].reshape(3, -1), axis=0)) == 3


def test_two_teachers_put_their_features_side_by_side(teacher_dir, task, tmp_path):
    """A committee has one head."""
    teachers = [bundles.load(teacher_dir)] * 2

    features = distillation.prepare(teachers, task, trainer.RunContext(), tmp_path).views.features
    np.testing.assert_array_equal(features[..., :256], features[..., 256:])


def test_an_extra_image_has_views_by_its_weight(teacher_dir, task, tmp_path):
    """Half as many if an epoch shows it half as often, and answers of heads that did not see it."""
    halved = dataclasses.replace(
        task, extra=task.images, recipe=dataclasses.replace(task.recipe, views=4, weight=2.0, extra_weight=1.0)
    )
    prepared = distillation.prepare([bundles.load(teacher_dir)], halved, trainer.RunContext(), tmp_path)

    adapted = prepared.adapt(halved, trainer.RunContext())
    assert (prepared.views.count, prepared.extra.count) == (4, 2)
    assert len(adapted.extra) == 2 * len(task.images)
    assert adapted.recipe.extra_weight * len(adapted.extra) == pytest.approx(len(task.images))


def test_teachers_of_other_labels_or_with_trained_backbones_are_rejected(teacher_dir):
    """The second one only if its figures would be dishonest."""
    frozen = bundles.load(teacher_dir)
    tuned = dataclasses.replace(frozen, manifest=dataclasses.replace(frozen.manifest, recipe={"fine_tuned": True}))

    with pytest.raises(ValueError, match="has the labels circle, square, stripes, not cat, dog: give another teacher"):
        distillation.check_teachers([frozen], ("cat", "dog"), is_evaluated=False)
    with pytest.raises(ValueError, match=r"--folds and --held-out need a frozen teacher, .*: leave out"):
        distillation.check_teachers([frozen, tuned], frozen.labels, is_evaluated=True)
    distillation.check_teachers([frozen, tuned], frozen.labels, is_evaluated=False)


def test_a_student_goes_the_whole_way_and_names_its_teacher(shapes_dir, teacher_dir, tmp_path):
    """With honest held-out figures, and resumable only with the same teacher."""
    options = ["--teacher", str(teacher_dir), "--size", "24", "--epochs", "1", "--threads", "1", "--set", "views=2"]

    assert train.main([str(shapes_dir), "--out", str(tmp_path / "student"), "--folds", "2", *options]) == 0
    stored = manifest.read(tmp_path / "student")
    assert stored.recipe["teachers"] == [f"shapes 1, digest {bundles.load(teacher_dir).digest}"]
    assert stored.metrics["cross_validation"]["count"] == 60


def test_published_weights_are_fine_tuned_on_the_answers_of_a_teacher(shapes_dir, teacher_dir, tmp_path):
    """The first stages stay as published, and each fold has a head of its own to start from."""
    options = ["--teacher", str(teacher_dir), "--fine-tune", "--network", "efficientnet-lite0", "--size", "32"]
    options += ["--epochs", "1", "--threads", "1", "--set", "views=2", "--folds", "2", "--precision", "float32"]

    assert train.main([str(shapes_dir), "--out", str(tmp_path / "student"), *options]) == 0
    stored = bundles.load(tmp_path / "student")
    assert stored.manifest.recipe["fine_tuned"]
    assert stored.manifest.metrics["cross_validation"]["count"] == 60
    published = pretrained.load_weights("efficientnet-lite0", "pretrained")
    trained = stored.network.state_dict()
    changed = [name for name, weight in published.items() if not torch.equal(weight, trained[name])]
    assert changed
    assert not any(name.startswith("0.") for name in changed)
