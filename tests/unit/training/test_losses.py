"""How the heads' losses add up and what the settings say; the cross-entropy itself is tested with the kernels."""

import math

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fastscnn.cli.launch import CONF
from fastscnn.kernels import upsample_dice, upsample_lovasz
from fastscnn.training.losses import SegmentationLoss
from fastscnn.training.own_loss import build_loss, check_loss
from fastscnn.utils.errors import RequestError
from helpers import refused


def test_auxiliary_heads_count_four_tenths_each():
    logits = [torch.zeros(1, classes, 2, 2) for classes in (4, 4, 4)]
    labels = torch.ones(1, 16, 16, dtype=torch.uint8)
    loss = SegmentationLoss()(logits[0], logits[1:], labels)
    assert float(loss) == pytest.approx((1 + 0.4 + 0.4) * math.log(4))


def test_without_auxiliary_heads_the_classifier_counts_alone():
    loss = SegmentationLoss(auxiliary_weight=0.0)(torch.zeros(1, 4, 2, 2), [], torch.ones(1, 4, 4, dtype=torch.uint8))
    assert float(loss) == pytest.approx(math.log(4))


def heads(classes=4):
    generator = torch.manual_seed(0)
    sizes = ((4, 6), (4, 6), (1, 2))  # of an output of 32x48: the classifier, x8 and x32
    logits = [(3 * torch.randn(2, classes, *size, generator=generator)).requires_grad_() for size in sizes]
    labels = torch.randint(0, classes, (2, 32, 48), generator=generator, dtype=torch.uint8)
    labels[:, :5] = 255
    return logits, labels


@pytest.mark.parametrize("fused", [True, False])
def test_each_head_is_torchs_weighted_and_smoothed_cross_entropy(fused):
    logits, labels = heads()
    loss = SegmentationLoss(0.3, 0.1, [1.0, 0.5, 2.0, 0.0], fused=fused, num_classes=4)(logits[0], logits[1:], labels)
    expected = [
        F.cross_entropy(
            F.interpolate(head, labels.shape[-2:], mode="bilinear"),
            labels.long(),
            torch.tensor([1.0, 0.5, 2.0, 0.0]),
            ignore_index=255,
            label_smoothing=0.1,
        )
        for head in logits
    ]
    torch.testing.assert_close(loss, expected[0] + 0.3 * (expected[1] + expected[2]))
    ours = torch.autograd.grad(loss, logits)
    plain = torch.autograd.grad(expected[0] + 0.3 * (expected[1] + expected[2]), logits)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-7)


def test_hard_pixels_are_each_heads_own():
    logits, labels = heads()
    expected = []
    for head in logits:
        losses = F.cross_entropy(
            F.interpolate(head, labels.shape[-2:], mode="bilinear"), labels.long(), ignore_index=255, reduction="none"
        )[labels != 255]
        expected.append(losses[losses > -math.log(0.2)].mean())
    for fused in (True, False):
        loss = SegmentationLoss(hard_pixels={"probability": 0.2, "keep": 0.1}, fused=fused)
        torch.testing.assert_close(
            loss(logits[0], logits[1:], labels), expected[0] + 0.4 * (expected[1] + expected[2]), rtol=1e-5, atol=1e-6
        )


def test_ohem_is_an_option_of_the_loss_and_the_default_takes_all_pixels():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = {name: compose("train", [f"loss={name}"]).loss for name in ("cross_entropy", "ohem")}
    losses = {name: build_loss(OmegaConf.to_container(loss)) for name, loss in found.items()}
    assert losses["cross_entropy"].hard is None
    assert losses["ohem"].hard == (0.7, 0.0625)
    assert losses["ohem"].auxiliary_weight == losses["cross_entropy"].auxiliary_weight == 0.4


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        (["loss=lovasz"], (1, 0)),
        (["loss=dice"], (0, 1)),
        (["loss=lovasz", "loss.dice_weight=0.5"], (1, 0.5)),
        (["loss=ohem", "loss.lovasz_weight=2", "loss.label_smoothing=0.1", "loss.class_weights=[1,0.5,2,0]"], (2, 0)),
    ],
)
def test_losses_of_regions_are_added_to_the_cross_entropy_for_the_classifier_alone(asked, weights):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = OmegaConf.to_container(compose("train", asked).loss)
    logits, labels = heads()
    loss = build_loss(settings, num_classes=4)
    entropy = build_loss(settings | {"lovasz_weight": 0, "dice_weight": 0}, num_classes=4)
    lovasz, dice = weights
    regions = lovasz * upsample_lovasz(logits[0], labels) + dice * upsample_dice(logits[0], labels)
    expected = entropy(logits[0], logits[1:], labels) + regions
    torch.testing.assert_close(loss(logits[0], logits[1:], labels), expected)
    part = loss.part(logits[0], logits[1:], labels)
    torch.testing.assert_close(part.means.sum(), expected)
    labelled = float((labels != 255).sum())
    assert part.weights[3:].tolist() == [labelled] * sum(weight > 0 for weight in weights)
    own = torch.autograd.grad(loss(logits[0], logits[1:], labels), logits)
    torch.testing.assert_close(own, torch.autograd.grad(expected, logits))


def test_class_weights_are_no_part_of_a_checkpoint():
    assert SegmentationLoss(class_weights=[1.0, 2.0]).state_dict() == {}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"class_weights": [1.0, 2.0], "num_classes": 3}, "loss.class_weights"),
        ({"class_weights": [1.0, -1.0]}, "loss.class_weights"),
        ({"class_weights": "balanced"}, "loss.class_weights"),
        ({"class_weights": [0.0, 0.0]}, "loss.class_weights"),
        ({"hard_pixels": True}, "loss.hard_pixels"),
        ({"hard_pixels": {"share": 0.1}}, "loss.hard_pixels"),
        ({"hard_pixels": {"keep": 7}}, "loss.hard_pixels.keep"),
        ({"fused": "auto"}, "loss.fused"),
        ({"auxiliary_weight": -1}, "loss.auxiliary_weight"),
        ({"label_smoothing": 1}, "loss.label_smoothing"),
        ({"lovasz_weight": -1}, "loss.lovasz_weight"),
        ({"dice_weight": "much"}, "loss.dice_weight"),
    ],
)
def test_settings_that_cannot_be_meant_so_are_refused(settings, key):
    with pytest.raises(RequestError) as refused:
        SegmentationLoss(**settings)
    assert refused.value.key == key
    assert refused.value.fix


OWN = """
import torch

class Dice(torch.nn.Module):
    def __init__(self, smooth=1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, logits, labels):
        labelled = labels != 255
        hot = torch.nn.functional.one_hot(labels.where(labelled, 0), logits.shape[1]).movedim(-1, 1) * labelled[:, None]
        chances = logits.softmax(1) * labelled[:, None]
        overlap, total = (chances * hot).sum((0, 2, 3)), (chances + hot).sum((0, 2, 3))
        return 1 - ((2 * overlap + self.smooth) / (total + self.smooth)).mean()

def no_class(logits, labels):
    return logits.mean()
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_module")
def test_loss_of_a_users_own_is_of_full_size_logits_and_weighs_the_heads():
    logits, labels = heads()

    def full(head):
        return F.interpolate(head, labels.shape[-2:], mode="bilinear")

    loss = build_loss({"_target_": "own_losses.Dice", "smooth": 2.0, "auxiliary_weight": 0.3}, num_classes=4)
    own = [loss.loss(full(head), labels.long()) for head in logits]
    assert loss.auxiliary_weight == 0.3
    torch.testing.assert_close(loss(logits[0], logits[1:], labels), own[0] + 0.3 * (own[1] + own[2]))
    torch.testing.assert_close(loss.part(logits[0], logits[1:], labels).means.sum(), own[0] + 0.3 * (own[1] + own[2]))
    assert build_loss({"_target_": "own_losses.Dice"}).auxiliary_weight == 0.4


def test_loss_of_a_library_knows_the_ignored_label():
    logits, labels = heads()
    torchs = build_loss({"_target_": "torch.nn.CrossEntropyLoss", "auxiliary_weight": 0.4, "label_smoothing": 0.1})
    ours = build_loss({"_target_": "fastscnn.training.losses.SegmentationLoss", "label_smoothing": 0.1})
    torch.testing.assert_close(torchs(logits[0], logits[1:], labels), ours(logits[0], logits[1:], labels))


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("settings", "key", "fix"),
    [
        ({"_target_": "own_losses.Dice", "fused": True, "power": 2}, "loss.fused", "'~loss.fused' '~loss.power'"),
        ({"_target_": "own_losses.no_class"}, "loss._target_", "torch.nn.CrossEntropyLoss"),
        ({"_target_": "own_losses.Missing"}, "loss._target_", "PYTHONPATH"),
        ({"_target_": "own_losses.Dice", "auxiliary_weight": -1}, "loss.auxiliary_weight", ""),
        ({"_target_": "fastscnn.training.losses.ImageLoss"}, "loss", "Leave it out"),
    ],
)
def test_loss_that_cannot_be_built_is_refused(settings, key, fix):
    with refused(key, fix=fix):
        check_loss(settings, images=False)
