"""Training on a global batch in parts, on two devices or in two steps, is training on it as a whole."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trained_in_parts import LOSSES, Frames, Images, build, build_classifier, frames, loader, train

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.kernels import HardPixels, reference, upsample_dice, upsample_lovasz
from fastscnn.training.loss_monitor import NonFiniteLoss, SeenLosses
from warm import run_program

WHOLE = [name for name in LOSSES if "hard" not in name and "regions" not in name]
"""Losses that do not depend on how a global batch is divided."""
ROUNDING = 5e-6
"""How far float32 may be from float64 in the gradient of the network as a whole."""


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """What two gloo processes trained: for each device, setting to momenta and losses."""
    folder = tmp_path_factory.mktemp("two_devices")
    run_program("trained_in_parts.py", str(folder), all_imported=True)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def mean(full, labels, loss):
    """The mean over all labelled pixels, as torch has it."""
    weights = torch.tensor(loss["class_weights"]).double() if "class_weights" in loss else None
    smoothing = loss.get("label_smoothing", 0.0)
    return F.cross_entropy(full, labels.long(), weights, ignore_index=255, label_smoothing=smoothing)


def hard_mean(full, labels, loss, parts):
    """Hard pixels are chosen within each part, and divided by their weight over the devices of a step; by frames."""
    weights = torch.tensor(loss.get("class_weights", [1.0] * CAMVID.num_classes)).double()
    hard = HardPixels(**loss["hard_pixels"])
    total = share = torch.zeros((), dtype=torch.float64)
    for devices in parts:
        sums = chosen = labelled = torch.zeros((), dtype=torch.float64)
        for own in devices:
            there = labels[own] != 255
            targets = labels[own][there].long()
            losses = F.cross_entropy(full[own], labels[own].long(), ignore_index=255, reduction="none")[there]
            counts = reference.hard_shares(torch.exp(-losses.detach()), hard) * weights[targets]
            sums, chosen = sums + (losses * counts).sum(), chosen + counts.sum()
            labelled = labelled + weights[targets].sum()
        total, share = total + labelled * sums / chosen.where(chosen > 0, 1), share + labelled
    return total / share


def regions_mean(logits, labels, loss, parts):
    """The losses of regions are those of each part, averaged by its labelled pixels."""
    given = {"lovasz_weight": upsample_lovasz, "dice_weight": upsample_dice}
    weighted = [(loss[name], function) for name, function in given.items() if loss.get(name)]
    total = 0
    for own in (own for devices in parts or [] for own in devices):
        share = (labels[own] != 255).sum() / (labels != 255).sum()
        total = total + share * sum(weight * function(logits[own], labels[own]) for weight, function in weighted)
    return total


def expected(loss, parts=None, images=slice(None)):
    """Loss and gradients of a global batch by plain torch in float64, each head upsampled over the whole batch."""
    module = build(loss).double().eval()
    images, labels = (tensor[images] for tensor in frames(0))
    features = module.network.features(module._input(images.double()))
    heads = [features.logits, *(head(x) for head, x in zip(module.auxiliary, features.inner, strict=True))]
    value = 0
    for head, factor in zip(heads, (1.0, 0.4, 0.4), strict=True):
        full = F.interpolate(head, labels.shape[-2:], mode="bilinear", align_corners=False)
        hard = "hard_pixels" in loss
        value += factor * (hard_mean(full, labels, loss, parts) if hard else mean(full, labels, loss))
    value = value + regions_mean(heads[0], labels, loss, parts)
    value.backward()
    return float(value.detach()), {name: parameter.grad for name, parameter in module.named_parameters()}


def difference(ours, theirs):
    """The largest, as a share of the largest number."""
    assert ours.keys() == theirs.keys()
    largest = max(float(tensor.abs().max()) for tensor in theirs.values())
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours) / largest


@pytest.mark.parametrize("name", WHOLE)
def test_two_devices_derive_the_mean_over_all_labelled_pixels(two_devices, name):
    value, gradients = expected(LOSSES[name])
    for momenta, losses in (device[name] for device in two_devices):
        assert difference(momenta[0], gradients) < ROUNDING
        assert losses[0] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", WHOLE)
def test_two_steps_derive_the_mean_over_all_labelled_pixels(tmp_path, name):
    value, gradients = expected(LOSSES[name])
    recorded = train(tmp_path, build(LOSSES[name]), accumulate_grad_batches=2)
    assert difference(recorded.momenta[0], gradients) < ROUNDING
    assert recorded.losses[0] == pytest.approx(value, rel=1e-6)


def test_one_process_two_devices_and_two_steps_agree_after_two_steps_of_the_optimizer(two_devices, tmp_path):
    one = train(tmp_path)
    assert len(one.momenta) == 2
    two = train(tmp_path, accumulate_grad_batches=2)
    for momenta, losses in (
        two_devices[0]["plain"],
        two_devices[1]["plain"],
        two_devices[0]["accumulated"],
        (two.momenta, two.losses),
    ):
        assert difference(momenta[1], one.momenta[1]) < 1e-6
        assert losses == pytest.approx(one.losses, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in WHOLE])
def test_hard_pixels_and_regions_are_those_of_each_part_which_counts_by_its_pixels(two_devices, tmp_path, name):
    value, gradients = expected(LOSSES[name], parts=[[[0, 2, 4, 6], [1, 3, 5, 7]]])
    for momenta, losses in (device[name] for device in two_devices):
        assert difference(momenta[0], gradients) < ROUNDING
        assert losses[0] == pytest.approx(value, rel=1e-6)
    value, gradients = expected(LOSSES[name], parts=[[[0, 1, 2, 3]], [[4, 5, 6, 7]]])
    recorded = train(tmp_path, build(LOSSES[name]), accumulate_grad_batches=2)
    assert difference(recorded.momenta[0], gradients) < ROUNDING
    assert recorded.losses[0] == pytest.approx(value, rel=1e-6)


def test_last_steps_of_an_epoch_that_are_too_few_are_a_batch_of_their_own(tmp_path):
    value, gradients = expected({}, images=slice(0, 2))

    class One(Frames):
        def train_dataloader(self):
            images, labels = frames(0)
            return loader([{"image": images[:2], "label": labels[:2], "name": ["frame"] * 2}])

    recorded = train(tmp_path, data=One(), accumulate_grad_batches=2)
    assert difference(recorded.momenta[0], gradients) < ROUNDING
    assert recorded.losses == [pytest.approx(value, rel=1e-6)]


def test_limit_of_batches_ends_the_last_accumulation(tmp_path):
    whole = train(tmp_path, accumulate_grad_batches=2)
    limited = train(tmp_path, accumulate_grad_batches=2, limit_train_batches=3)
    assert len(limited.momenta) == 2
    assert difference(limited.momenta[0], whole.momenta[0]) == 0
    assert limited.losses[1] != pytest.approx(whole.losses[1])


def test_global_batch_without_a_labelled_pixel_leaves_the_weights(tmp_path):
    recorded = train(tmp_path, data=Frames(unlabelled=True), accumulate_grad_batches=2)
    assert recorded.losses == [0, 0]
    assert not any(tensor.any() for tensor in recorded.momenta[-1].values())


@pytest.mark.parametrize("settings", [{"gradient_clip_val": 0.01}, {"precision": "bf16-mixed"}])
def test_clipping_and_mixed_precision_see_the_gradient_of_the_global_batch(tmp_path, settings):
    one = train(tmp_path, **settings)
    two = train(tmp_path, accumulate_grad_batches=2, **settings)
    limit = 1e-6 if "precision" not in settings else 0.02
    assert difference(two.momenta[0], one.momenta[0]) < limit
    assert two.losses[0] == pytest.approx(one.losses[0], rel=limit)
    if "precision" not in settings:
        norm = nn.utils.get_total_norm(list(two.momenta[0].values()))
        assert float(norm) == pytest.approx(0.01, rel=1e-4)


def test_image_classifier_counts_each_image_once_where_parts_differ_in_size(tmp_path):
    whole = train(tmp_path, build_classifier(), Images())
    parts = train(tmp_path, build_classifier(), Images(), accumulate_grad_batches=2)
    assert difference(parts.momenta[0], whole.momenta[0]) < 1e-6
    assert parts.losses == [pytest.approx(whole.losses[0], rel=1e-6)]


def test_loss_of_another_device_that_is_not_finite_is_not_blamed_on_this_ones_frames():
    with pytest.raises(NonFiniteLoss, match=r"^the loss is nan at step 3 \(frames of another device\)"):
        SeenLosses().add(torch.tensor(float("nan")), 3, ["mine"], torch.tensor(1.0))
    with pytest.raises(NonFiniteLoss, match=r"^the loss is nan at step 3 \(frames mine\)"):
        SeenLosses().add(torch.tensor(float("nan")), 3, ["mine"], torch.tensor(float("nan")))
