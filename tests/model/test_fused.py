"""The form of a network that is served on a CPU: faster, with the same answers."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from model import fused, networks


def answers(network, pictures):
    with torch.inference_mode():
        return network.eval()(pictures)


def pictures(count, side):
    drawn = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))
    return drawn.contiguous(memory_format=torch.channels_last)


def shaken(network):
    """The network with normalisations that have seen something, some of whose scales are below zero."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.1)
    return network


@pytest.mark.parametrize("name", ["cookpad-cnn", "residual", "resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("count", [1, 5])
def test_the_answers_are_the_same(name, count):
    """Folded, merged and laid out anew, ours and torchvision's give the same logits up to rounding."""
    network = shaken(networks.build(name, classes=3, height=64, width=64))
    batch = pictures(count, 64)

    expected = answers(network, batch)
    torch.testing.assert_close(answers(fused.fused(network), batch), expected, rtol=1e-3, atol=1e-4)


def test_a_network_that_is_asked_twice_is_folded_once():
    """A committee asks the same member about a picture and its mirror image."""
    member = shaken(networks.build("residual", classes=2, height=32, width=32))
    committee = networks.together([member], mirrored=True)
    batch = pictures(4, 32)

    torch.testing.assert_close(answers(fused.fused(committee), batch), answers(committee, batch), rtol=1e-3, atol=1e-4)


def test_normalisations_and_relus_are_gone_where_they_can_be():
    """What is left of the published network are convolutions, pools and dense layers."""
    network = fused.fused(networks.build("cookpad-cnn", classes=2, height=64, width=64))

    kinds = [type(layer) for layer in network.children()]
    assert kinds.count(fused.Convolution) == 6
    assert kinds.count(fused.Halving) == 3
    assert kinds.count(nn.ReLU) == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_normalisation_is_folded_through_a_pool_only_if_its_scales_are_above_zero(sign):
    """The maximum of what is turned upside down is another."""
    norm = nn.BatchNorm2d(8)
    nn.init.constant_(norm.weight, sign)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), norm, nn.ReLU())
    made = fused.fused(network)

    batch = pictures(2, 20)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in made.modules()) == (sign < 0)
    torch.testing.assert_close(answers(made, batch), answers(network, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [20, 21])
def test_a_pool_leaves_out_the_last_row_of_an_odd_number(side):
    """As torch's own does."""
    batch = pictures(2, side)

    torch.testing.assert_close(fused.Halving()(batch), nn.functional.max_pool2d(batch, 2))


def test_weights_are_kept_once_for_all_sizes_of_a_batch():
    """Each size would else have its copy of the weights."""
    layer = fused.Convolution(nn.Conv2d(64, 64, 3), relu=True)
    for count in range(1, 17):
        answers(layer, torch.rand(count, 64, 14, 14).contiguous(memory_format=torch.channels_last))

    assert len(layer._packed) == 16
    assert len(layer._layouts) <= 3


def test_a_sequence_with_a_way_of_its_own_is_left_alone():
    """Whoever goes through the layers otherwise than one after the other knows why."""

    class Strange(nn.Sequential):
        def forward(self, pictures):
            return self[1](self[0](pictures)).mean((2, 3))

    network = Strange(nn.Conv2d(3, 4, 3), nn.ReLU())
    batch = pictures(2, 16)

    torch.testing.assert_close(answers(fused.fused(network), batch), answers(network, batch))


def test_others_classify_while_a_network_is_merged():
    """Promotion happens under load: a thread that classifies notices nothing of a network that is being made ready."""
    network = shaken(networks.build("residual", classes=2, height=32, width=32))
    served, batch = fused.fused(network), pictures(2, 32)
    expected, broken, over = answers(served, batch), [], threading.Event()

    def classify():
        while not over.is_set():
            try:
                torch.testing.assert_close(answers(served, batch), expected)
            except Exception as error:  # noqa: BLE001
                broken.append(error)

    thread = threading.Thread(target=classify)
    thread.start()
    for _ in range(20):
        fused.fused(network)
    over.set()
    thread.join()
    assert broken == []


def test_the_original_is_left_alone():
    """Whoever goes on with it finds its weights and layers as they were."""
    network = shaken(networks.build("residual", classes=2, height=32, width=32))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused.fused(network)

    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_is_not_merged_is_not_in_memory_twice():
    """Nearly all of the published network's weights are those of a dense layer."""
    network = networks.build("cookpad-cnn", classes=2, height=64, width=64).eval()
    shared = {weights.data_ptr() for weights in network.parameters()}

    made = [weights for weights in fused.fused(network).parameters() if weights.numel() > 1_000_000]
    assert [weights.data_ptr() in shared for weights in made] == [True]
