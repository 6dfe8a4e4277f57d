"""The residual network takes any size and number of classes, and treats each image independently."""

import pytest
import torch

from model.networks import residual


@pytest.mark.parametrize(("classes", "height", "width"), [(2, 96, 96), (7, 32, 80), (3, 65, 47)])
def test_it_takes_any_classes_and_any_size_from_the_smallest(classes, height, width):
    network = residual.build(classes, height, width).eval()

    assert network(torch.zeros(2, 3, height, width)).shape == (2, classes)


def test_smaller_images_are_rejected():
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, not 96 x 31"):
        residual.build(2, 31, 96)


def test_it_has_less_than_a_quarter_of_the_published_networks_weights():
    assert sum(weight.numel() for weight in residual.build(2, 96, 96).parameters()) == 1_165_986


def test_the_same_seed_starts_the_same_weights():
    def fresh(seed):
        torch.manual_seed(seed)
        return residual.build(2, 96, 96).state_dict()

    first, again, other = fresh(0), fresh(0), fresh(1)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_fresh_blocks_are_the_identity_and_logits_are_zero():
    network = residual.build(2, 32, 32).eval()
    block, features = network[4], torch.randn(3, 32, 8, 8)

    with torch.inference_mode():
        torch.testing.assert_close(block(features), block.halved(features))
        assert not network(torch.randn(3, 3, 32, 32)).any()


def test_in_eval_mode_a_result_does_not_depend_on_the_batch_and_in_training_it_does():
    torch.manual_seed(0)
    network = residual.build(2, 48, 48)
    torch.nn.init.normal_(network[-1].weight)
    images = torch.randn(5, 3, 48, 48)

    with torch.inference_mode():
        batched, alone = network.eval()(images), network(images[2:3])
        torch.testing.assert_close(batched[2:3], alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(network.train()(images)[2:3], alone, atol=1e-3)


def test_every_weight_gets_a_gradient():
    network = residual.build(3, 32, 32)
    # The zeros that it starts with hold back the gradients behind them, until their own first step.
    for weight in network.parameters():
        torch.nn.init.normal_(weight, mean=0.1, std=0.1)

    network(torch.randn(4, 3, 32, 32)).logsumexp(dim=1).sum().backward()

    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())
