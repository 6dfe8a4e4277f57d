"""Any classifier of timm can be built; timm is imported for its own networks only."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from model.networks import factory, heads, pretrained, timm_zoo


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "tf_efficientnet_lite0", "resnet18.a1_in1k"])
def test_a_network_of_timm_takes_the_size_and_the_number_of_classes(name):
    """Convolutional ones, transformers of a fixed size, and names with the tag of the weights."""
    with torch.device("meta"):
        network = factory.build(name, classes=3, height=64, width=64)
        images = torch.zeros(2, 3, 64, 64)

        assert network(images).shape == (2, 3)
        assert heads.backbone(network, 3)(images).ndim == 2


@pytest.mark.parametrize("name", ["resnet18.no_such_tag", "hf-hub:timm/resnet18", "local-dir:/etc", "no_such_network"])
def test_other_names_are_unknown_and_nothing_is_downloaded(name):
    """A manifest could otherwise make a worker fetch a configuration."""
    with pytest.raises(ValueError, match=r"Unknown network .*, or one of the 1[0-9]* of timm"):
        factory.check_name(name)


def test_a_network_that_cannot_be_built_is_rejected_with_the_reason(monkeypatch):
    """In one sentence, though timm's own has several lines."""

    def fail(*_, **__):
        raise AssertionError("Input size is not divisible.\nMore lines")

    monkeypatch.setattr("timm.create_model", fail)

    with pytest.raises(
        ValueError, match=r"cannot be built for images of 20 x 20 \(Input size is not divisible\): choose"
    ):
        factory.build("vit_tiny_patch16_224", classes=2, height=20, width=20)


def test_without_timm_its_networks_are_unknown_and_the_message_says_how_to_get_it(monkeypatch):
    """A worker may be installed without the extra `train`."""
    monkeypatch.setattr(timm_zoo, "_timm", lambda: None)

    with pytest.raises(ValueError, match=r"Unknown network 'resnet18d': .*after installing the extra `train`"):
        factory.check_name("resnet18d")


def _forbid_sleep(monkeypatch):
    """Fail a sleep of this thread; a server that another test left in this process has threads that sleep."""
    sleep, this_thread = time.sleep, threading.get_ident()

    def sleep_elsewhere(seconds):
        if threading.get_ident() == this_thread:
            pytest.fail("it waits")
        sleep(seconds)

    monkeypatch.setattr("time.sleep", sleep_elsewhere)


def test_without_a_connection_the_message_names_the_alternative_at_once(monkeypatch, tmp_path):
    """Where the weights are, and what to do with the file; without waiting for another try."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    _forbid_sleep(monkeypatch)

    expected = r"resnet18d cannot be downloaded from timm/resnet18d\S+ \(.*\): .* as --weights FILE"
    with pytest.raises(ValueError, match=expected):
        pretrained.load_weights("resnet18d", "pretrained")


def test_a_network_without_published_weights_is_named():
    """Instead of random weights."""
    with pytest.raises(ValueError, match="timm has no pre-trained weights for botnet50ts_256"):
        pretrained.load_weights("botnet50ts_256", "pretrained")


def test_our_networks_import_neither_zoo():
    """A worker that serves a shipped bundle pays for neither."""
    code = "import sys; from model.networks import factory\n"
    code += "for name in factory.NETWORKS: factory.build(name, classes=2, height=64, width=64)\n"
    code += "sys.exit(str([name for name in ('timm', 'torchvision') if name in sys.modules] or ''))"

    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stderr.strip() == ""


def test_loading_a_bundle_does_not_import_torchs_compiler():
    """It would take 155 MB of each worker's memory."""
    code = "import sys; from core import settings; from model.packaging import bundle\n"
    code += "for folder in settings.BUNDLES_DIR.iterdir(): bundle.load(folder)\n"
    code += "sys.exit(str([name for name in ('torch._dynamo', 'sympy') if name in sys.modules] or ''))"

    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stderr.strip() == ""
