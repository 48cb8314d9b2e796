"""The paper's peers: what is left of the library's networks under our contract, and what they are refused."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastscnn.models.build import MODELS, build_network
from fastscnn.models.flops import network_cost
from fastscnn.models.peers import PEERS, Peer, library_network
from fastscnn.reports.paper import TABLE_4, TABLE_6
from helpers import refused

pytest.importorskip("pytorchcv", reason="the peers come from the library pytorchcv, which is not installed")

CLASSES = 7
IMAGES = torch.randn(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=PEERS)
def peer(request):
    """Each peer's name, and the peer in eval mode."""
    torch.manual_seed(0)
    yield request.param, Peer(request.param, CLASSES).eval()


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def test_forward_is_the_librarys_own_network(peer):
    name, ours = peer
    with torch.device("meta"):  # it gets ours: random weights of its own would take longer than all else
        theirs = library_network(name, CLASSES).eval()
    theirs.to_empty(device="cpu")
    absent = theirs.load_state_dict(ours.body.state_dict(), strict=False)
    assert all(key.startswith(PEERS[name].auxiliary) for key in absent.missing_keys)
    assert not absent.unexpected_keys
    if name == "bisenet":
        theirs.up8.scale_factor = 8  # with fixed_size=False the library leaves it out, and its forward raises
    expected = theirs(IMAGES)
    assert expected.std() > 0
    assert torch.equal(ours(IMAGES), expected)


@torch.no_grad()
def test_coarse_logits_are_what_the_last_upsampling_takes(peer):
    name, network = peer
    coarse = network.coarse_logits(IMAGES)
    stride = PEERS[name].stride
    assert coarse.shape == (2, CLASSES, 64 // stride, 128 // stride)
    assert (stride == 1) == (PEERS[name].upsampling is None)
    expected = F.interpolate(coarse, (64, 128), mode="bilinear", align_corners=True) if stride > 1 else coarse
    assert torch.equal(network(IMAGES), expected)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (33, 61)])
def test_any_size_from_one_up_gives_logits_of_that_size(peer, size):
    name, network = peer
    images = torch.randn(1, 3, *size)
    assert network(images).shape == (1, CLASSES, *size)
    coarse = tuple(-(-side // PEERS[name].stride) for side in size)
    assert network.coarse_logits(images).shape == (1, CLASSES, *coarse)


@torch.no_grad()
def test_image_that_must_be_padded_is_the_top_left_of_a_larger_one_with_zeros(peer):
    name, network = peer
    if PEERS[name].multiple == 1:
        pytest.skip("the library takes every size")
    images = IMAGES[:1].clone()
    images[..., 60:, :] = 0
    images[..., 123:] = 0
    assert torch.equal(network(images[..., :60, :123]), network(images)[..., :60, :123])


def test_training_gives_every_parameter_a_gradient_and_needs_two_images(peer):
    _, network = peer
    network.train()
    try:
        features = network.features(IMAGES)
        assert features.inner == network.auxiliary_channels == ()
        features.logits.square().mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        with pytest.raises(ValueError, match="no batch statistics"):
            network(IMAGES[:1])
    finally:
        network.zero_grad(set_to_none=True)
        network.eval()


@pytest.mark.parametrize("name", ["segnet", "enet", "erfnet", "contextnet", "pspnet"])
def test_parameters_are_the_papers_where_the_variant_is_the_same(name):
    with torch.device("meta"):
        assert parameters(Peer(name)) / 1e6 == pytest.approx(PEERS[name].parameters, rel=0.04)


def test_names_and_parameters_are_those_of_the_papers_tables():
    published = {model.name: model.parameters for model in TABLE_4}
    for info in PEERS.values():
        assert published[info.paper_name] == info.parameters
    timed = {name for speeds in TABLE_6.values() for name in speeds if not name.startswith("Fast-SCNN")}
    assert timed - {"GUN"} <= {info.paper_name for info in PEERS.values()}


@pytest.mark.parametrize("name", ["enet", "erfnet", "contextnet"])
def test_multiply_adds_are_those_of_each_convolution(name):
    network, found = Peer(name).eval(), []

    def count(convolution, inputs, output):
        places = inputs[0] if isinstance(convolution, nn.ConvTranspose2d) else output
        found.append(places.numel() * convolution.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 128))
    expected = sum(found)
    assert sum(cost.macs for cost in network_cost(network, (64, 128))) == expected


def test_other_channels_are_taken_where_there_is_no_classification_backbone():
    assert Peer("enet", in_channels=4).eval()(torch.randn(1, 4, 16, 16)).shape == (1, 19, 16, 16)
    with pytest.raises(ValueError, match="bisenet takes images of 3 channels"):
        Peer("bisenet", in_channels=4)


@pytest.mark.parametrize(("name", "arguments"), [("lenet", {}), ("enet", {"num_classes": 0})])
def test_wrong_arguments_are_refused(name, arguments):
    with pytest.raises(ValueError, match=r"one of segnet|must be 1 or more"):
        Peer(name, **arguments)


def test_builder_knows_each_peer_and_refuses_what_belongs_to_fast_scnn():
    assert set(MODELS) == {"fast_scnn", *PEERS, "external"}
    assert build_network({"name": "erfnet", "in_channels": 3}, 5).num_classes == 5
    for setting, value in (("skip", "zero"), ("activation", "relu6"), ("dropout", 0.1)):
        with refused(setting, f"{setting}={value}", "erfnet"):
            build_network({"name": "erfnet", "in_channels": 3, setting: value}, 5)


def test_missing_library_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorchcv", None)
    with refused("model.name", "model.name=contextnet", fix="pip install pytorchcv"):
        build_network({"name": "contextnet", "in_channels": 3}, 19)
