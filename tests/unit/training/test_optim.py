"""Which parameters decay, by name, with any optimizer, and how their step is computed."""

import copy

import pytest
import torch
from omegaconf import OmegaConf

from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.optim import build_optimizer, check_optimizer, choose_fused, decay_groups, same_layout
from fastscnn.utils.errors import RequestError
from helpers import CONF, job


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


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_step_without_gradient_shrinks_only_what_decays(name):
    network = FastSCNN()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    settings = {"_target_": f"torch.optim.{name}", "_partial_": True, "lr": 0.1, "weight_decay": 0.5}
    build_optimizer(network, settings, torch.device("cpu")).step()
    decayed, _ = names_that_decay(network)
    for name, parameter in network.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if name in decayed else before[name]
        torch.testing.assert_close(parameter.detach(), expected)


def trained(fused, layout=torch.contiguous_format, steps=3, state=None, name="SGD"):
    """Weights and optimizer after a few steps along made-up gradients, the same for every layout."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.BatchNorm2d(4))
    module.to(memory_format=layout)
    settings = {"_target_": f"torch.optim.{name}", "lr": 0.1, "weight_decay": 0.01, "fused": fused}
    settings |= {"momentum": 0.9} if name == "SGD" else {}
    optimizer = build_optimizer(module, settings, torch.device("cpu"))
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


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_state_of_a_checkpoint_is_taken_over_in_the_layout_of_the_weights(name):
    state = trained(False, torch.channels_last, name=name)[1].state_dict()
    fused, plain = (trained(fused, state=state, name=name)[0] for fused in (True, False))
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class Thrifty(torch.optim.SGD):
    """An optimizer of a user's own, which takes little."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)


def test_optimizer_of_a_users_own_is_built_with_the_same_groups():
    settings = {"_target_": f"{__name__}.Thrifty", "_partial_": True, "lr": 0.2}
    optimizer = build_optimizer(FastSCNN(), settings, torch.device("cpu"))
    assert isinstance(optimizer, Thrifty)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.2]
    assert {name for group in optimizer.param_groups for name in group["names"]} == set(
        dict(FastSCNN().named_parameters())
    )


@pytest.mark.parametrize(
    ("settings", "key", "fix"),
    [
        ({"_target_": f"{__name__}.Thrifty", "momentum": 0.9}, "optimizer.momentum", "~optimizer.momentum"),
        ({"_target_": "torch.optim.AdamW", "momentum": 0.9}, "optimizer.momentum", "~optimizer.momentum"),
        ({"_target_": "my.AdamW"}, "optimizer._target_", "PYTHONPATH"),
        ({"_target_": "torch.nn.Linear"}, "optimizer._target_", "torch.optim.AdamW"),
        ({"_target_": "os.system"}, "optimizer._target_", "torch.optim.AdamW"),
        ({"lr": 0.1}, "optimizer", "optimizer._target_=MODULE.CLASS"),
    ],
)
def test_what_an_optimizer_cannot_be_or_take_is_named_with_what_mends_it(settings, key, fix):
    with pytest.raises(RequestError) as found:
        check_optimizer(settings)
    assert found.value.key == key
    assert fix in found.value.fix


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


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml")))
def test_every_option_takes_a_step_with_the_decay_of_the_right_weights(option):
    with job(f"optimizer={option}") as config:
        settings = OmegaConf.to_container(config.optimizer, resolve=True)
    network = FastSCNN()
    optimizer = build_optimizer(network, settings, torch.device("cpu"))
    assert type(optimizer).__name__.lower() == option
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (settings["weight_decay"], 0)
    assert decayed["lr"] == plain["lr"] == settings["lr"]
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)


def test_only_sgd_takes_the_learning_rate_of_the_data():
    rates = {}
    for option in ("sgd", "adamw", "lamb"):
        with job(f"optimizer={option}", "data=camvid") as config:
            rates[option] = config.optimizer.lr
    assert rates == {"sgd": 0.045, "adamw": 1e-3, "lamb": 1e-3}
