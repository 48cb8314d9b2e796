"""Which parameters decay, by name, how their step is computed, and how the learning rate falls."""

import copy

import pytest
import torch

from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.optim import choose_fused, decay_groups, poly, same_layout, sgd


def names_that_decay(module):
    decayed, plain = decay_groups(module, 4e-5)
    assert decayed["weight_decay"] == 4e-5
    assert plain["weight_decay"] == 0.0
    return set(decayed["names"]), set(plain["names"])


def test_depthwise_batchnorm_and_biases_do_not_decay_and_the_other_convolutions_do():
    network = FastSCNN()
    decayed, plain = names_that_decay(network)
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    assert decayed | plain == set(shapes)
    assert not decayed & plain
    depthwise = {name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 1 and shape[2] == 3}
    vectors = {name for name, shape in shapes.items() if len(shape) == 1}
    assert len(depthwise) == 2 + 9 + 1 + 2
    assert plain == depthwise | vectors


@pytest.mark.parametrize(
    ("name", "decays"),
    [
        ("learning_to_downsample.0.0.weight", True),
        ("learning_to_downsample.0.1.weight", False),
        ("learning_to_downsample.2.0.0.weight", False),
        ("learning_to_downsample.2.1.0.weight", True),
        ("global_feature_extractor.0.layers.0.0.weight", True),
        ("global_feature_extractor.0.layers.2.0.weight", False),
        ("global_feature_extractor.9.stages.0.1.0.weight", True),
        ("feature_fusion.high.0.weight", True),
        ("feature_fusion.low.0.0.weight", False),
        ("classifier.3.weight", True),
        ("classifier.3.bias", False),
    ],
)
def test_decay_by_name(name, decays):
    decayed, plain = names_that_decay(FastSCNN())
    assert name in (decayed if decays else plain)


def test_auxiliary_heads_follow_the_same_rule():
    decayed, plain = names_that_decay(AuxiliaryHead(64, 19))
    assert decayed == {"0.0.weight", "3.weight"}
    assert plain == {"0.1.weight", "0.1.bias", "3.bias"}


def test_a_step_without_gradient_shrinks_only_what_decays():
    network = FastSCNN()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    sgd(network, lr=0.1, weight_decay=0.5).step()
    decayed, _ = names_that_decay(network)
    for name, parameter in network.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if name in decayed else before[name]
        torch.testing.assert_close(parameter.detach(), expected)


def test_learning_rate_follows_the_poly_formula_each_step_down_to_zero():
    layer = torch.nn.Linear(2, 2)
    optimizer = sgd(layer, lr=0.045)
    schedule = poly(optimizer, 10, 0.9)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.045 * (1 - step / 10) ** 0.9 for step in range(10)])
    assert optimizer.param_groups[0]["lr"] == 0.0


def trained(fused, layout=torch.contiguous_format, steps=3, state=None):
    """Weights and optimizer after a few steps along made-up gradients, the same for every layout."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.BatchNorm2d(4))
    module.to(memory_format=layout)
    optimizer = sgd(module, lr=0.1, weight_decay=0.01, fused=fused)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
        for group in optimizer.param_groups:
            group["fused"] = fused
        same_layout(optimizer)
    for _ in range(steps):
        for parameter in module.parameters():
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
        optimizer.step()
    return [parameter.detach() for parameter in module.parameters()], optimizer


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fused_step_is_the_plain_one(layout):
    for fused, plain in zip(trained(True, layout)[0], trained(False)[0], strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-6)


def test_momentum_of_a_checkpoint_is_taken_over_in_the_layout_of_the_weights():
    state = trained(False, torch.channels_last)[1].state_dict()
    for fused, plain in zip(trained(True, state=state)[0], trained(False, state=state)[0], strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "device", "clips", "expected"),
    [
        ("auto", "cpu", False, True),
        ("auto", "cpu", True, None),
        ("auto", "cuda", False, None),
        (True, "cuda", True, True),
        (False, "cpu", False, False),
    ],
)
def test_automatic_choice_of_the_fused_step(setting, device, clips, expected):
    assert choose_fused(setting, torch.device(device), clips=clips) is expected
