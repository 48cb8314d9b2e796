"""BatchNorm and its activation as one function within a block, and the same network outside of it."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
import trained_in_parts as parts
from torch import nn

from fastscnn.kernels.cuda import norm as cuda_norm
from fastscnn.models.blocks import AuxiliaryHead, ConvBN
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training import fused_norm
from fastscnn.training.fused_norm import FusedNorm, choose_fused_norm


@pytest.fixture
def calls(monkeypatch):
    """BatchNorms and activations that are computed together; by torch, where there is no GPU."""
    seen = []

    def batch_norm(features, norm, activation=None):
        seen.append((norm, activation))
        out = norm.forward(features)
        return out if activation is None else activation.forward(out)

    monkeypatch.setattr(cuda_norm, "applies", lambda features, norm: norm.training)
    monkeypatch.setattr(cuda_norm, "batch_norm", batch_norm)
    return seen


def ran(module, *images, fused=False):
    torch.manual_seed(0)
    if not fused:
        return module(*images)
    with FusedNorm(module):
        return module(*images)


def assert_same(module, *images):
    """The same outputs, gradients and running statistics, fused or not."""
    found = []
    for fused in (False, True):
        own = copy.deepcopy(module)
        out = ran(own, *images, fused=fused)
        out.square().mean().backward()
        found.append([out, *(weight.grad for weight in own.parameters()), *own.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_each_batchnorm_of_fast_scnn_is_fused_with_the_activation_after_it(calls, activation):
    network = FastSCNN(3, activation=activation).train()
    images = torch.randn(2, 3, 32, 64)
    assert_same(network, images)
    order = []
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d | nn.ReLU | nn.ReLU6):
            part.register_forward_hook(lambda part, *_: order.append(part))
    ran(network, images)  # a layer with a hook is torch's
    own = copy.deepcopy(network)
    for part in own.modules():
        part._forward_hooks.clear()
    calls.clear()
    ran(own, images, fused=True)
    place = dict(zip(network.modules(), own.modules(), strict=True))
    after = {place[norm]: place[part] for norm, part in itertools.pairwise(order) if type(norm) is nn.BatchNorm2d}
    assert len(calls) == sum(type(part) is nn.BatchNorm2d for part in own.modules())
    added = [block.layers[4][1] for block in list(own.global_feature_extractor)[:-1]]
    added += [own.feature_fusion.high[1], own.feature_fusion.low[2][1]]
    for norm, activation in calls:
        following = after.get(norm)
        assert activation is (None if norm in added or isinstance(following, nn.BatchNorm2d) else following)


def test_heads_are_fused_too(calls):
    assert_same(AuxiliaryHead(4, 2, dropout=0).train(), torch.randn(2, 4, 5, 5))
    assert [type(activation) for _, activation in calls] == [nn.ReLU]


def test_what_does_not_apply_is_torchs(calls):
    network = nn.Sequential(ConvBN(3, 4), nn.ReLU(), ConvBN(4, 4), nn.ReLU())
    network[0].eval()  # frozen
    assert_same(network.train(True), torch.randn(2, 3, 4, 4))
    calls.clear()
    network[0].eval()
    assert_same(network, torch.randn(2, 3, 4, 4))
    assert len(calls) == 1


def test_outside_of_the_block_the_network_is_as_it_was(calls):
    network = FastSCNN(3).train()
    keys, names = list(network.state_dict()), [name for name, _ in network.named_modules()]
    before = {part: dict(part.__dict__) for part in network.modules()}
    fused = FusedNorm(network)
    with fused:
        assert list(network.state_dict()) == keys and [name for name, _ in network.named_modules()] == names
    with pytest.raises(ZeroDivisionError), fused:
        1 / 0  # noqa: B018
    assert all(part.__dict__ == before[part] for part in network.modules())
    ran(network, torch.randn(2, 3, 32, 32))
    assert not calls


class Odd(nn.Sequential):
    """Computes its layers backwards."""

    def forward(self, features):
        for layer in reversed(self):
            features = layer(features)
        return features


class Apart(nn.Module):
    """Takes a sequence apart, and has a BatchNorm by itself."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(ConvBN(4, 4), nn.ReLU())
        self.norm = nn.BatchNorm2d(4)

    def forward(self, features):
        return self.layers[1](self.norm(self.layers[0](features))) - self.layers[:1](features)


def test_only_sequences_that_are_computed_as_such_are_fused(calls):
    images = torch.randn(2, 4, 5, 5)
    for network in (
        Odd(nn.ReLU(), nn.BatchNorm2d(4)),
        Apart(),
        nn.Sequential(nn.BatchNorm2d(4), nn.GELU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(4), nn.LeakyReLU(), Odd(nn.ReLU(), nn.BatchNorm2d(4)), nn.ReLU()),
        nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.ReLU6()),
    ):
        calls.clear()
        assert_same(network.train(), images)
        assert all(activation is None or type(activation) is nn.ReLU for _, activation in calls)
    shared = nn.ReLU()
    assert_same(nn.Sequential(ConvBN(4, 4), shared, ConvBN(4, 4), shared), images)


def test_a_batchnorm_over_devices_is_left_alone(calls):
    network = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(ConvBN(3, 4), nn.ReLU()))
    assert FusedNorm(network).norms == 0


def test_layers_with_hooks_are_called(calls):
    for hooked in range(4):
        network = nn.Sequential(ConvBN(3, 4), nn.ReLU(), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
        part = [network[0], network[0][1], network[1], network[2]][hooked]
        seen = []
        part.register_forward_hook(lambda *call, seen=seen: seen.append(call[2].detach().clone()))
        images = torch.randn(2, 3, 4, 4)
        outputs = []
        for fused in (False, True):
            outputs.append(ran(copy.deepcopy(network), images, fused=fused))
        assert torch.equal(*outputs) and len(seen) == 2 and torch.equal(*seen)


def trainer(device="cuda"):
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), is_global_zero=True)


@pytest.mark.parametrize(
    ("settings", "device", "module", "said"),
    [
        ({}, "cpu", ConvBN(3, 4), "there is no GPU with Triton"),
        ({"compile": True}, "cuda", ConvBN(3, 4), "trainer.compile has its own programs"),
        ({"recompute": True}, "cuda", ConvBN(3, 4), "trainer.recompute=true"),
        ({"channels_last": False}, "cuda", ConvBN(3, 4), "trainer.channels_last=false"),
        ({}, "cuda", ConvBN(3, 4).bfloat16(), "its weights are not float32"),
        ({}, "cuda", nn.Sequential(nn.Conv2d(3, 4, 1)), "no nn.BatchNorm2d"),
    ],
)
def test_where_it_cannot_be_it_says_why_if_it_was_asked_for(monkeypatch, capsys, settings, device, module, said):
    monkeypatch.setattr(fused_norm.cuda, "usable", lambda device: True)
    for setting in ("auto", True):
        assert choose_fused_norm(settings | {"fused_norm": setting}, trainer(device), module) is None
        assert (said in capsys.readouterr().out) == (setting is True)


def test_it_is_chosen_where_it_can_be_and_is_wanted(monkeypatch):
    monkeypatch.setattr(fused_norm.cuda, "usable", lambda device: True)
    for setting, chosen in ((True, True), ("auto", True), (False, False)):
        assert bool(choose_fused_norm({"fused_norm": setting}, trainer(), ConvBN(3, 4))) == chosen
    assert choose_fused_norm({}, trainer(), ConvBN(3, 4)) is None, "runs from before it was a setting"
    assert choose_fused_norm({"fused_norm": True}, None, ConvBN(3, 4)) is None


@pytest.mark.parametrize("data", [parts.Frames, parts.Images], ids=["segmentation", "classification"])
def test_a_run_trains_the_same_with_it(tmp_path, monkeypatch, calls, data):
    build = parts.build_classifier if data is parts.Images else lambda: parts.build({"fused": False})
    plain = build()
    expected = parts.train(tmp_path, plain, data())
    assert not calls
    monkeypatch.setattr(cuda_norm, "applies", lambda features, norm: True)  # also those that `parts` freezes
    monkeypatch.setattr(fused_norm, "why_not", lambda *given: None)
    module = build()
    module.config["trainer"] = {"fused_norm": True}
    found = parts.train(tmp_path, module, data())
    assert found.losses == expected.losses and len(calls) >= 10
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    assert module._fused_norm is None
