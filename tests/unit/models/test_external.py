"""Any module that gives logits, under the contract of every network: tried once, then as our own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.models.base import OnlyLogits, SegmentationNetwork
from fastscnn.models.build import build_network, check_model
from fastscnn.models.external import External
from fastscnn.training.freezing import freeze_parts
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, camvid_frames, refused


class Shaped(nn.Module):
    """Logits at a stride, in some container; refuses sides that are no multiple of a number."""

    def __init__(self, classes=5, stride=4, multiple=1, wrap=lambda logits: logits):
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 3, stride=stride, padding=1)
        self.multiple = multiple
        self.wrap = wrap

    def forward(self, images):
        if images.shape[-1] % self.multiple or images.shape[-2] % self.multiple:
            raise RuntimeError(f"wrong input shape {tuple(images.shape)}\nand more")
        return self.wrap(self.layer(images))


class Labels(nn.Module):
    def forward(self, images):
        return images.argmax(1)


class WithoutPadding(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 5)

    def forward(self, images):
        return self.layer(F.pad(images, (1, 1, 1, 1)))


class WithHeads(SegmentationNetwork):
    """A network that keeps the contract itself."""

    auxiliary_channels = (6,)
    stride = 2

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.scores = nn.Conv2d(6, num_classes, 1)

    def features(self, images):
        inner = self.stem(images)
        return OnlyLogits(self.scores(inner), (inner,))


def text(num_classes):
    return f"{num_classes} classes"


def node(target, **arguments):
    return {"name": "external", "network": {"_target_": target, **arguments}}


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
def test_stride_is_found_and_logits_cover_the_image(stride):
    network = External(Shaped(stride=stride), 5)
    assert (network.stride, network.multiple, network.auxiliary_channels) == (stride, 1, ())
    images = torch.randn(2, 3, 50, 71)
    assert network.coarse_logits(images).shape == (2, 5, -(-50 // stride), -(-71 // stride))
    assert network(images).shape == (2, 5, 50, 71)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: {"aux": logits * 2, "out": logits},
        lambda logits: {"scores": logits, "other": logits * 2},
        lambda logits: [logits, logits * 2],
        lambda logits: ({"out": logits}, None),
    ],
    ids=["out", "first of a mapping", "first of a list", "nested"],
)
@pytest.mark.parametrize("training", [True, False])
def test_logits_come_out_of_any_container(wrap, training):
    body = Shaped(wrap=wrap)
    network = External(body, 5).train(training)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network.features(images).logits, body.layer(images))


def test_list_in_training_alone_is_taken_too():
    body = Shaped()
    body.wrap = lambda logits: [logits, logits] if body.training else logits
    network = External(body, 5)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network.train().coarse_logits(images), network.eval().coarse_logits(images))


def test_image_that_must_be_padded_is_the_top_left_of_a_larger_one_with_zeros():
    network = External(Shaped(stride=8, multiple=32), 5)
    assert (network.multiple, network.stride) == (32, 8)
    images = torch.zeros(2, 3, 64, 96)
    images[..., :50, :70] = torch.randn(2, 3, 50, 70)
    small = network.coarse_logits(images[..., :50, :70])
    assert torch.equal(small, network.coarse_logits(images)[..., :7, :9])
    assert network(torch.randn(1, 3, 1, 1)).shape == (1, 5, 1, 1)


def test_trying_changes_neither_the_modes_nor_the_statistics():
    body = nn.Sequential(Shaped(), nn.BatchNorm2d(5), nn.BatchNorm2d(5).eval())
    before = torch.get_rng_state()
    External(body, 5)
    assert [part.training for part in body.children()] == [True, True, False]
    assert body[1].num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), before)


def test_what_gives_no_logits_of_the_datas_classes_is_refused():
    with refused("model.network", "int64 [1, 1, 1]", "[B, 5, h, w]", fix="argmax"):
        External(Labels(), 5)
    with refused("model.network", "5 classes", "the data has 7", fix="num_classes"):
        External(Shaped(classes=5), 7)
    with refused("model.network", "from edge to edge"):
        External(WithoutPadding(5), 5)
    with refused("model.network", "wrong input shape (1, 3, 16, 16)", fix="model.multiple"):
        External(Shaped(multiple=48), 5, multiple=16)


def test_number_of_classes_is_given_under_the_classs_own_name():
    here = f"{__name__}.Shaped"
    assert build_network(node(here, stride=2), 9).body.layer.out_channels == 9
    with refused("model.network", "5 classes", "the data has 9"):
        build_network(node(here, classes=5), 9)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ({"name": "external", "network": None}, "model.network"),
        (node("nobody_has_this.Net"), "model.network._target_"),
        (node("torch.pi"), "model.network._target_"),
        (node(f"{__name__}.Shaped", depth=3), "model.network.depth"),
        (node(f"{__name__}.Shaped") | {"multiple": 0}, "model.multiple"),
        (node(f"{__name__}.Shaped") | {"skip": "zero"}, "skip"),
    ],
)
def test_wrong_config_is_refused_before_anything_is_built(model, key):
    with refused(key):
        check_model(model)


def test_network_that_keeps_the_contract_itself_has_its_auxiliary_heads():
    model = node(f"{__name__}.WithHeads")
    module = Segmentation(SEGMENTATION | {"model": model}, CAMVID)
    assert isinstance(module.network, WithHeads)
    assert len(module.auxiliary) == 1
    frame = next(iter(camvid_frames()))
    module.objective(frame["image"], frame["label"]).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_function_that_builds_no_network_is_refused():
    with refused("model.network._target_", "str, not a torch.nn.Module"):
        build_network(node(f"{__name__}.text"), 5)


def test_parts_of_the_users_own_module_are_named_to_be_frozen():
    module = Segmentation(SEGMENTATION | {"model": node(f"{__name__}.Shaped")}, CAMVID)
    with refused("init.freeze", "layer", fix="body.layer"):
        freeze_parts(module, ["layer"])


def test_rebuilding_for_a_checkpoint_downloads_nothing(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("weights are downloaded that a checkpoint replaces")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    network = {"_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large", "weights": "DEFAULT"}
    model = {"name": "external", "multiple": "auto", "network": network}
    assert build_network(model, 21, pretrained=False).num_classes == 21


def test_function_that_runs_programs_is_refused_in_a_whole_sentence():
    model = {"name": "external", "network": {"_target_": "os.system", "command": "touch called"}}
    with refused("model.network._target_", "os.system", fix="class"):
        build_network(model, 3)
