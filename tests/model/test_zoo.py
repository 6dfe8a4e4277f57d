"""torchvision's networks are trained here too, from fresh weights or from those of a file."""

import shlex
import subprocess
import urllib.error

import pytest
import safetensors.torch
import torch

from model import networks, zoo


def build(classes):
    torch.manual_seed(classes)
    return networks.build("mobilenet_v3_small", classes=classes, height=32, width=32)


@pytest.fixture
def file(tmp_path):
    safetensors.torch.save_file(build(1000).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_weights_for_other_classes_keep_everything_but_the_head(file):
    network, old = build(3), build(1000).state_dict()
    head = {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith("classifier.3")}

    fresh = zoo.fill(network, zoo.weights("mobilenet_v3_small", str(file)), 3)

    assert sorted(fresh) == ["classifier.3.bias", "classifier.3.weight"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, head[name] if name in fresh else old[name])


def test_weights_for_the_same_classes_are_taken_whole(file):
    network = build(1000)
    torch.nn.init.zeros_(network.classifier[3].weight)

    assert zoo.fill(network, zoo.weights("mobilenet_v3_small", str(file)), 1000) == []
    assert torch.equal(network.classifier[3].weight, build(1000).classifier[3].weight)


def test_weights_of_another_network_are_refused(file):
    network = networks.build("resnet18", classes=3, height=32, width=32)

    with pytest.raises(ValueError, match=r"do not fit \(.* is absent there"):
        zoo.fill(network, zoo.weights("resnet18", str(file)), 3)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path, file):
    pickle = tmp_path / "it's weights.pth"
    torch.save(build(3).state_dict(), pickle)

    with pytest.raises(ValueError, match="is a pickle") as refused:
        zoo.weights("mobilenet_v3_small", str(pickle))

    command = shlex.split(str(refused.value).partition("Convert it with: ")[2])
    subprocess.run(command, check=True)
    converted = zoo.weights("mobilenet_v3_small", str(pickle.with_suffix(".safetensors")))
    assert zoo.fill(build(3), converted, 3) == []


def test_a_pickle_by_another_name_is_refused_and_never_run(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "w.safetensors")

    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        zoo.weights("resnet18", str(tmp_path / "w.safetensors"))


def test_without_a_connection_the_way_round_is_told(monkeypatch, tmp_path):
    def nowhere(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", nowhere)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))

    with pytest.raises(ValueError, match=r"resnet18-.*\.pth cannot be had .*--weights FILE"):
        zoo.weights("resnet18", "pretrained")
    with pytest.raises(ValueError, match="no pre-trained weights for residual"):
        zoo.weights("residual", "pretrained")


def test_a_picture_is_normalised_as_for_the_pretrained_weights():
    assert zoo.normalisation("resnet18") == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
