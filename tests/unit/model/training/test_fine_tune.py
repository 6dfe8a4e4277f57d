"""Fine-tuning fits the head first, and then changes the last stages only."""

import dataclasses

import pytest
import torch
from torch import nn

from model import train, verify
from model.datasets import dataset
from model.networks import factory
from model.packaging import manifest
from model.preprocessing.decode import Preprocess
from model.training import augment, fine_tune, fit, recipe, trainer

pytestmark = pytest.mark.slow

SERVING = Preprocess(32, 32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
RECIPE = recipe.Recipe(epochs=2, batch=16, learning_rate=1e-3, augment=augment.Augmentation(min_area=0.7))
CONTEXT = trainer.RunContext()


def build(name="efficientnet-lite0"):
    torch.manual_seed(3)
    return factory.build(name, classes=3, height=32, width=32)


@pytest.fixture(scope="module")
def task(shapes_dir):
    images = dataset.read([shapes_dir], dataclasses.replace(SERVING, width=40, height=40))
    return trainer.TrainingTask("shapes", build, images, None, SERVING, RECIPE, seed=0)


def test_only_the_last_stages_and_no_statistics_of_norms_change(task):
    """The first stages of the result are those of the published weights."""
    started = fine_tune.adapt(task, CONTEXT).build_network().network
    trained = fit.fit(dataclasses.replace(task, adaptations=[fine_tune.adapt]), CONTEXT).network
    first = fine_tune.first_trained_stage(trained)

    before, after = started.state_dict(), trained.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert {int(name.partition(".")[0]) for name in changed} <= set(range(first, len(trained)))
    assert not [name for name in changed if "running" in name]


def test_the_fused_first_stages_do_not_change_the_logits(task):
    """In eval mode the form gives what the network gives that is served."""
    form = fine_tune.adapt(task, CONTEXT).build_network().eval()
    images = torch.rand(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    with torch.inference_mode():
        torch.testing.assert_close(form(images), factory.inference_form(form)(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet18", "mobilenet_v3_small"])
def test_norms_stay_in_eval_mode_and_dropout_does_not(name):
    """Ours and torchvision's, whose first stages cannot be fused."""
    form = fine_tune.FineTuningForm(build(name), CONTEXT).train()

    norms = [layer for layer in form.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert all(layer.training for layer in form.network.modules() if isinstance(layer, nn.Dropout))
    assert form(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    trainable = sum(weights.numel() for weights in form.parameters() if weights.requires_grad)
    assert trainable >= fine_tune.TRAINED_SHARE * sum(weights.numel() for weights in form.parameters())


def test_the_head_is_fitted_before_the_first_step(task):
    """On random features of drawn shapes it is right more often than chance."""
    form = fine_tune.adapt(task, CONTEXT).build_network()

    head = form.network[-1]
    assert head.weight.abs().sum() > 0
    assert not torch.equal(head.weight[0], head.weight[1])


def test_it_goes_the_whole_way_from_published_weights(shapes_dir, tmp_path, capsys):
    """With folds; without weights to start from it is rejected."""
    options = [str(shapes_dir), "--out", str(tmp_path / "b"), "--fine-tune", "--threads", "1", "--size", "32"]

    assert train.main([*options, "--network", "efficientnet-lite0", "--epochs", "1", "--folds", "2"]) == 0
    stored = manifest.read(tmp_path / "b")
    assert "Apache License 2.0" in stored.recipe["weights"]
    assert stored.recipe["fine_tuned"]
    assert stored.metrics["cross_validation"]["count"] == 60
    assert verify.main([str(tmp_path / "b")]) == 0
    assert train.main([*options, "--network", "residual"]) == 2
    assert "--fine-tune needs weights to start from" in capsys.readouterr().err
