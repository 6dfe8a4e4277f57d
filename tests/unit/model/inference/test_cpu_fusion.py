"""The fused form of a network on a CPU gives the same logits."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from model.inference import cpu_fusion, onednn_conv
from model.networks import efficientnet_lite, factory, residual


def logits_of(network, images):
    with torch.inference_mode():
        return network.eval()(images)


def random_images(count, side):
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))
    return images.contiguous(memory_format=torch.channels_last)


def randomised(network):
    """Randomise a network's norms, with some negative scales."""
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


@pytest.mark.parametrize("name", ["cookpad-cnn", "residual", "efficientnet-lite1", "resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("count", [1, 5])
def test_fusion_does_not_change_the_logits(name, count):
    """Our networks and torchvision's, up to rounding."""
    network = randomised(factory.build(name, classes=3, height=64, width=64))
    batch = random_images(count, 64)

    expected = logits_of(network, batch)
    torch.testing.assert_close(logits_of(cpu_fusion.fuse(network), batch), expected, rtol=1e-3, atol=1e-4)


def test_a_network_that_runs_twice_is_folded_once():
    """A mirrored ensemble runs the same member on an image and its mirror image."""
    member = randomised(factory.build("residual", classes=2, height=32, width=32))
    ensemble = factory.ensemble([member], mirrored=True)
    batch = random_images(4, 32)

    torch.testing.assert_close(
        logits_of(cpu_fusion.fuse(ensemble), batch), logits_of(ensemble, batch), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 17), (16, 17), (17, 16)])
def test_same_padding_is_fused_for_even_and_odd_sides(kernel, height, width):
    """TensorFlow pads an even side by one zero more at its end."""
    conv = nn.Conv2d(8, 8, kernel, stride=2, groups=8)
    network = nn.Sequential(efficientnet_lite.SamePad2d(kernel), conv, nn.BatchNorm2d(8), nn.ReLU6())
    features = torch.randn(2, 8, height, width).contiguous(memory_format=torch.channels_last)
    fused = cpu_fusion.fuse(randomised(network))

    torch.testing.assert_close(logits_of(fused, features), logits_of(network, features), rtol=1e-4, atol=1e-5)
    assert [type(layer) for layer in fused] == [nn.Identity, onednn_conv.OneDnnSameConv2d, nn.Identity, nn.Identity]


def test_padding_for_another_convolution_stays():
    """The layer before a convolution is its own padding only if kernel, stride and padding fit."""
    network = nn.Sequential(efficientnet_lite.SamePad2d(5), nn.Conv2d(3, 4, 3, stride=2, padding=1))
    batch = random_images(2, 16)

    torch.testing.assert_close(
        logits_of(cpu_fusion.fuse(network), batch), logits_of(network, batch), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["residual", "efficientnet-lite0"])
def test_no_norm_activation_or_sum_remains_of_our_residual_networks(name):
    """Each convolution computes the sum of the block that it ends, too."""
    fused = cpu_fusion.fuse(factory.build(name, classes=2, height=64, width=64))

    kinds = {type(layer) for layer in fused.modules()}
    assert not kinds & {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6, efficientnet_lite.SamePad2d}
    assert not kinds & {efficientnet_lite.InvertedResidual, residual.ResidualBlock}


def test_weights_are_rounded_once_in_bfloat16():
    """A norm is folded in float32, before the conversion."""
    if not onednn_conv.is_usable(torch.bfloat16):
        pytest.skip("oneDNN has no bfloat16 on this CPU")
    network = randomised(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))

    exact, rounded = (
        dict(cpu_fusion.fuse(network, dtype).named_buffers()) for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact
    for name, weights in rounded.items():
        torch.testing.assert_close(weights, exact[name].bfloat16(), rtol=0, atol=0)


def test_norms_and_relus_are_fused_away():
    """Convolutions, pools and dense layers remain of the published network."""
    network = cpu_fusion.fuse(factory.build("cookpad-cnn", classes=2, height=64, width=64))

    kinds = [type(layer) for layer in network.children()]
    assert kinds.count(onednn_conv.OneDnnConv2d) == 6
    assert kinds.count(cpu_fusion.FusedMaxPool2x2) == 3
    assert kinds.count(nn.ReLU) == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_norm_is_folded_through_a_pool_only_if_its_scales_are_positive(sign):
    """A negative scale changes which value is the maximum."""
    norm = nn.BatchNorm2d(8)
    nn.init.constant_(norm.weight, sign)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), norm, nn.ReLU())
    fused = cpu_fusion.fuse(network)

    batch = random_images(2, 20)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules()) == (sign < 0)
    torch.testing.assert_close(logits_of(fused, batch), logits_of(network, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [20, 21])
def test_a_pool_leaves_out_the_last_row_of_an_odd_number(side):
    """Like `nn.MaxPool2d`."""
    batch = random_images(2, side)

    torch.testing.assert_close(cpu_fusion.FusedMaxPool2x2()(batch), nn.functional.max_pool2d(batch, 2))


def test_weights_are_stored_once_for_all_batch_sizes():
    """Batch sizes with the same layout share one copy."""
    layer = onednn_conv.OneDnnConv2d(nn.Conv2d(64, 64, 3), nn.ReLU())
    for count in range(1, 17):
        logits_of(layer, torch.rand(count, 64, 14, 14).contiguous(memory_format=torch.channels_last))

    assert len(layer._packed_by_shape) == 16
    assert len(layer._packed_by_layout) <= 3


def test_a_sequential_with_its_own_forward_is_not_changed():
    """Its layers may not run one after the other."""

    class Strange(nn.Sequential):
        def forward(self, images):
            return self[1](self[0](images)).mean((2, 3))

    network = Strange(nn.Conv2d(3, 4, 3), nn.ReLU())
    batch = random_images(2, 16)

    torch.testing.assert_close(logits_of(cpu_fusion.fuse(network), batch), logits_of(network, batch))


def test_other_threads_classify_while_a_network_is_fused():
    """A model is promoted under load: preparing a network must not affect threads that classify."""
    network = randomised(factory.build("residual", classes=2, height=32, width=32))
    served, batch = cpu_fusion.fuse(network), random_images(2, 32)
    expected, broken, over = logits_of(served, batch), [], threading.Event()

    def classify():
        while not over.is_set():
            try:
                torch.testing.assert_close(logits_of(served, batch), expected)
            except Exception as error:  # noqa: BLE001
                broken.append(error)

    thread = threading.Thread(target=classify)
    thread.start()
    for _ in range(20):
        cpu_fusion.fuse(network)
    over.set()
    thread.join()
    assert broken == []


def test_the_original_is_not_changed():
    """Its weights and layers stay the same."""
    network = randomised(factory.build("residual", classes=2, height=32, width=32))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cpu_fusion.fuse(network)

    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_layers_that_are_not_fused_share_their_weights():
    """Nearly all weights of the published network are in a dense layer."""
    network = factory.build("cookpad-cnn", classes=2, height=64, width=64).eval()
    shared = {weights.data_ptr() for weights in network.parameters()}

    large_weights = [weights for weights in cpu_fusion.fuse(network).parameters() if weights.numel() > 1_000_000]
    assert [weights.data_ptr() in shared for weights in large_weights] == [True]
