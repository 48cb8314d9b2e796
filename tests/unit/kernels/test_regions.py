"""Dice and Lovász losses of coarse logits are those of the full-size ones, in value and gradient."""

import pytest
import torch
import torch.nn.functional as F

from fastscnn.kernels import regions, upsample_dice, upsample_lovasz
from fastscnn.kernels.cpu import regions as cpu

SIZES = {"eight times as large": (40, 56), "of odd sides": (37, 53), "smaller": (3, 5)}


def pixels(logits, labels):
    """Probabilities [N, C] and classes [N] of the labelled pixels, from full-size logits."""
    full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    labelled = labels != 255
    return full.softmax(1).movedim(1, -1)[labelled], labels[labelled].long()


def plain_dice(logits, labels):
    chances, classes = pixels(logits, labels)
    true = F.one_hot(classes, logits.shape[1]).to(chances)
    ratio = 2 * (chances * true).sum(0) / (chances.sum(0) + true.sum(0))
    return (1 - ratio)[true.any(0)].mean()


def plain_lovasz(logits, labels):
    """Algorithm 1 of Berman et al. 2018: the Jaccard losses of the sorted errors' beginnings, and their differences."""
    chances, classes = pixels(logits, labels)
    losses = []
    for number in classes.unique():
        true = (classes == number).to(chances)
        errors, order = (true - chances[:, number]).abs().sort(descending=True)
        true = true[order]
        jaccard = 1 - (true.sum() - true.cumsum(0)) / (true.sum() + (1 - true).cumsum(0))
        losses.append(errors @ torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]]))
    return torch.stack(losses).mean()


def batch(size, dtype=torch.float64):
    """Three images of five classes, two of which no pixel has, and ignored pixels."""
    draw = torch.manual_seed(0)
    logits = (3 * torch.randn(3, 5, 5, 7, generator=draw, dtype=torch.float64)).to(dtype).requires_grad_()
    labels = torch.tensor([0, 3, 4, 255])[torch.randint(0, 4, (3, *size), generator=draw)].to(torch.uint8)
    labels[0, : size[0] // 2] = 255
    return logits, labels


def both(loss, plain, logits, labels):
    """Value and gradient of a loss and of its reference."""
    values = loss(logits, labels), plain(logits, labels)
    return [(value.detach(), *torch.autograd.grad(value, logits)) for value in values]


@pytest.fixture(params=[1 << 20, 100], ids=["at once", "row by row"])
def in_torch(request, monkeypatch):
    """Not compiled, as on a GPU, with so many logits upsampled at once."""
    monkeypatch.setattr(regions, "ELEMENTS", request.param)
    monkeypatch.setattr(cpu, "applies", lambda logits, labels: False)


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize(("loss", "plain"), [(upsample_dice, plain_dice), (upsample_lovasz, plain_lovasz)])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_losses_in_torch_are_those_of_the_full_size_probabilities(loss, plain, size):
    ours, expected = both(loss, plain, *batch(size))
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(("loss", "plain"), [(upsample_dice, plain_dice), (upsample_lovasz, plain_lovasz)])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_losses_are_those_of_the_full_size_probabilities(loss, plain, size, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    logits, labels = batch(size)
    expected, derived = both(plain, plain, logits, labels)[0]
    given = logits.detach().float().requires_grad_()
    value = loss(given, labels)
    (gradient,) = torch.autograd.grad(value, given)
    assert value.item() == pytest.approx(expected.item(), abs=2e-5)
    assert float((gradient - derived).abs().max() / derived.abs().max()) < 0.003
    assert torch.equal(value.detach(), loss(given.detach(), labels)), "also where nothing is derived"


def test_lovasz_of_counted_errors_is_below_the_exact_one_by_no_more_than_a_step(monkeypatch):
    monkeypatch.setattr(cpu, "STEPS", 64)
    logits, labels = batch((40, 56))
    exact = plain_lovasz(logits, labels).item()
    assert exact - 1 / 64 < upsample_lovasz(logits.detach().float(), labels).item() < exact + 1e-6


def test_order_of_pixels_with_one_error_is_of_no_matter():
    logits, labels = torch.zeros(1, 2, 2, 2), torch.ones(1, 4, 4, dtype=torch.uint8)
    labels[0, :2] = 0
    for exact in (True, False):
        assert float(upsample_lovasz(logits, labels, exact=exact)) == pytest.approx(0.5)


@pytest.mark.parametrize(("loss", "plain"), [(upsample_dice, plain_dice), (upsample_lovasz, plain_lovasz)])
def test_half_precision_is_as_close_as_its_numbers(loss, plain):
    logits, labels = batch((37, 53))
    given = logits.detach().to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(given, labels)
    (gradient,) = torch.autograd.grad(value, given)
    assert value.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    assert value.item() == pytest.approx(plain(logits, labels).item(), abs=0.02)


@pytest.mark.parametrize("loss", [upsample_dice, upsample_lovasz, lambda *given: upsample_lovasz(*given, exact=True)])
def test_nothing_labelled_is_no_loss_and_no_gradient(loss):
    logits, labels = batch((37, 53), torch.float32)
    value = loss(logits, torch.full_like(labels, 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", [upsample_dice, upsample_lovasz, lambda *given: upsample_lovasz(*given, exact=True)])
def test_logits_that_are_not_finite_give_a_loss_that_is_none(loss):
    logits, labels = batch((37, 53), torch.float32)
    with torch.no_grad():
        logits[1, 3, 2, 2] = float("nan")
    assert not torch.isfinite(loss(logits, labels))


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("in_torch", [1 << 20], indirect=True)
@pytest.mark.parametrize("loss", [upsample_dice, upsample_lovasz])
def test_no_tensor_has_both_all_classes_and_the_full_size(loss):
    draw = torch.manual_seed(0)
    logits = torch.randn(2, 19, 32, 64, generator=draw, requires_grad=True)
    labels = torch.randint(0, 19, (2, 256, 512), generator=draw, dtype=torch.uint8)
    full = 2 * 19 * 256 * 512
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes())
            return result

    with Watch():
        loss(logits, labels).backward()
    assert largest <= 8 * max(full // 19, 1 << 20) < 4 * full
