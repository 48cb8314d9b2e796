"""Layers computed by programs of ours within a block, and the same network outside of it."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
import trained_in_parts as parts
from torch import nn

from fastscnn.kernels.cuda import depthwise_training as cuda_depthwise
from fastscnn.kernels.cuda import norm as cuda_norm
from fastscnn.models.blocks import AuxiliaryHead, ConvBN, DWConvBN
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training import layer_programs
from fastscnn.training.layer_programs import LayerPrograms, choose_layer_programs

ALL = [cuda_norm, cuda_depthwise]


@pytest.fixture
def calls(monkeypatch):
    """Layers, and the activations that are computed with them; by torch, where there is no GPU."""
    seen = []

    def compute(features, layer, activation=None):
        seen.append((layer, activation))
        out = layer.forward(features)
        return out if activation is None else activation.forward(out)

    for programs in ALL:
        monkeypatch.setattr(programs, "applies", lambda features, layer: layer.training)
        monkeypatch.setattr(programs, "compute", compute)
    return seen


def ran(module, *images, ours=False):
    torch.manual_seed(0)
    if not ours:
        return module(*images)
    with LayerPrograms(module, ALL):
        return module(*images)


def assert_same(module, *images):
    """The same outputs, gradients and running statistics, with our programs or without."""
    found = []
    for ours in (False, True):
        own = copy.deepcopy(module)
        out = ran(own, *images, ours=ours)
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
    ran(own, images, ours=True)
    place = dict(zip(network.modules(), own.modules(), strict=True))
    after = {place[norm]: place[part] for norm, part in itertools.pairwise(order) if type(norm) is nn.BatchNorm2d}
    filters = [part for part in own.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert [layer for layer, _ in calls if not isinstance(layer, nn.BatchNorm2d)] == filters
    calls[:] = [call for call in calls if isinstance(call[0], nn.BatchNorm2d)]
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
    ours = LayerPrograms(network, ALL)
    with ours:
        assert list(network.state_dict()) == keys and [name for name, _ in network.named_modules()] == names
    with pytest.raises(ZeroDivisionError), ours:
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
    assert LayerPrograms(network, ALL).count(cuda_norm) == 0


def test_layers_with_hooks_are_called(calls):
    for hooked in range(4):
        network = nn.Sequential(ConvBN(3, 4), nn.ReLU(), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
        part = [network[0], network[0][1], network[1], network[2]][hooked]
        seen = []
        part.register_forward_hook(lambda *call, seen=seen: seen.append(call[2].detach().clone()))
        images = torch.randn(2, 3, 4, 4)
        outputs = []
        for ours in (False, True):
            outputs.append(ran(copy.deepcopy(network), images, ours=ours))
        assert torch.equal(*outputs) and len(seen) == 2 and torch.equal(*seen)


def trainer(device="cuda"):
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), is_global_zero=True)


@pytest.mark.parametrize(
    ("settings", "device", "module", "said"),
    [
        ({}, "cpu", DWConvBN(4), "there is no GPU with Triton"),
        ({"compile": True}, "cuda", DWConvBN(4), "trainer.compile has its own programs"),
        ({"recompute": True}, "cuda", DWConvBN(4), "trainer.recompute=true"),
        ({"channels_last": False}, "cuda", DWConvBN(4), "trainer.channels_last=false"),
        ({}, "cuda", DWConvBN(4).bfloat16(), "its weights are not float32"),
        ({}, "cuda", nn.Sequential(nn.Conv2d(3, 4, 1)), "the network has none"),
    ],
)
def test_where_it_cannot_be_it_says_why_if_it_was_asked_for(monkeypatch, capsys, settings, device, module, said):
    monkeypatch.setattr(layer_programs.labels, "usable", lambda device: True)
    for name, what in (("fused_norm", "BatchNorm is not fused"), ("triton_depthwise", "convolutions are torch's")):
        for setting in ("auto", True):
            assert choose_layer_programs(settings | {name: setting}, trainer(device), module) is None
            assert (f"{what}: {said}" in capsys.readouterr().out) == (setting is True)


@pytest.mark.parametrize(("name", "programs"), [("fused_norm", cuda_norm), ("triton_depthwise", cuda_depthwise)])
def test_programs_are_chosen_where_they_can_be_and_are_wanted(monkeypatch, capsys, name, programs):
    monkeypatch.setattr(layer_programs.labels, "usable", lambda device: True)
    network = DWConvBN(4)
    for setting, chosen in ((True, 1), ("auto", 1), (False, 0)):
        found = choose_layer_programs({name: setting}, trainer(), network)
        assert [found.count(module) if found else 0 for module in ALL] == [
            chosen * (module is programs) for module in ALL
        ]
    assert choose_layer_programs({}, trainer(), network) is None, "runs from before it was a setting"
    assert choose_layer_programs({name: True}, None, network) is None
    assert not capsys.readouterr().out


def test_a_sequence_that_computes_otherwise_by_itself_is_left_alone(calls):
    network = nn.Sequential(ConvBN(3, 4), nn.ReLU())
    network.forward = own = lambda features: features * 2
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(ran(network, images, ours=True), images * 2)
    assert network.forward is own


@pytest.mark.parametrize("data", [parts.Frames, parts.Images], ids=["segmentation", "classification"])
def test_a_run_trains_the_same_with_it(tmp_path, monkeypatch, calls, data):
    build = parts.build_classifier if data is parts.Images else lambda: parts.build({"fused": False})
    plain = build()
    expected = parts.train(tmp_path, plain, data())
    assert not calls
    for programs in ALL:
        monkeypatch.setattr(programs, "applies", lambda features, layer: True)  # also those that `parts` freezes
    monkeypatch.setattr(layer_programs, "why_not", lambda *given: None)
    module = build()
    module.config["trainer"] = {"fused_norm": True, "triton_depthwise": True}
    found = parts.train(tmp_path, module, data())
    assert found.losses == expected.losses and len(calls) >= 10
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    assert module._layer_programs is None
