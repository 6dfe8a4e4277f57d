"""A classifier is its head on the features of its backbone."""

import pytest
import torch
from torch import nn

from model.networks import factory, heads


@pytest.mark.parametrize("name", ["residual", "efficientnet-lite0", "mobilenet_v3_small", "vit_b_16"])
def test_the_head_on_the_features_gives_the_logits(name):
    """Our networks and torchvision's, with weights that are shared and not copied."""
    network = factory.build(name, classes=3, height=32, width=32).eval()
    head = network.get_submodule(heads.head_name(network, 3))
    nn.init.normal_(head.weight)
    backbone, images = heads.backbone(network, 3), torch.rand(2, 3, 32, 32)

    with torch.inference_mode():
        torch.testing.assert_close(head(backbone(images)), network(images))
    assert {id(weight) for weight in backbone.parameters()} < {id(weight) for weight in network.parameters()}


@pytest.mark.parametrize(("name", "classes"), [("squeezenet1_1", 3), ("vgg11", 4096)])
def test_a_network_without_one_dense_head_is_rejected(name, classes):
    """A convolution as the head, or hidden layers with as many outputs as there are classes."""
    with torch.device("meta"):
        network = factory.build(name, classes=classes, height=32, width=32)

    with pytest.raises(ValueError, match=r"has [03] dense layers .*: choose a network with one"):
        heads.head_name(network, classes)
