"""The fused cross-entropy against plain torch in double precision."""

import math

import pytest
import torch
import torch.nn.functional as F

from fastscnn.kernels import HardPixels, reference, upsample_cross_entropy, upsample_cross_entropy_and_weight
from fastscnn.kernels.cpu import loss as cpu_loss
from fastscnn.kernels.reference import hard_shares

SHAPES = [
    # batch, classes, rows, columns, output rows, output columns
    (2, 19, 6, 9, 48, 72),
    (1, 2, 3, 4, 24, 32),
    (3, 2, 1, 1, 8, 8),
    (2, 64, 5, 7, 5, 7),
    (1, 11, 4, 3, 128, 96),
    (2, 5, 4, 6, 12, 30),
    (1, 19, 7, 1, 56, 2),
    (2, 6, 5, 7, 17, 23),
    (1, 4, 9, 13, 5, 3),
    (1, 3, 6, 5, 1, 41),
    (1, 7, 3, 40, 23, 311),
]
OPTIONS = [
    {},
    {"weight": True},
    {"label_smoothing": 0.1},
    {"weight": True, "label_smoothing": 0.2},
    {"hard": HardPixels(0.4, 0.3)},
    {"hard": HardPixels(0.1, 0.5), "weight": True, "label_smoothing": 0.1},
]

EPSILON = 6e-8
"""One rounding of float32."""


def plain(logits, labels, **arguments):
    """Torch's own loss and gradient, in double precision."""
    logits = logits.detach().double().requires_grad_()
    full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(full, labels.long(), ignore_index=255, **arguments)
    loss.backward()
    return loss.detach(), logits.grad


def plain_hard(logits, labels, hard, weight=None, label_smoothing=0.0):
    """The same over the hard pixels, chosen by sorting."""
    logits = logits.detach().double().requires_grad_()
    full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    pixels = full.permute(0, 2, 3, 1)[labels != 255]
    targets = labels[labels != 255].long()
    probability = pixels.detach().softmax(1)[torch.arange(len(targets)), targets]
    count = max(int((probability < hard.probability).sum()), math.ceil(hard.keep * len(targets)))
    hardest = probability.argsort()[:count]
    loss = F.cross_entropy(pixels[hardest], targets[hardest], weight, label_smoothing=label_smoothing)
    loss.backward()
    return loss.detach(), logits.grad


def sample(batch, classes, rows, columns, height, width, spread=3.0, ignored=0.2):
    generator = torch.manual_seed(rows * 100 + columns)
    logits = torch.randn(batch, classes, rows, columns, generator=generator) * spread
    labels = torch.randint(0, classes, (batch, height, width), dtype=torch.uint8, generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels


def loss_and_gradient(function, logits, labels, **arguments):
    logits = logits.detach().clone().requires_grad_()
    loss = function(logits, labels, **arguments)
    loss.backward()
    return loss.detach(), logits.grad


def error(gradient, exact):
    return float((gradient - exact).abs().max() / exact.abs().max())


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("function", [cpu_loss.upsample_cross_entropy, reference.upsample_cross_entropy])
def test_loss_and_gradient_equal_plain_torch_in_double_precision(shape, options, function):
    logits, labels = sample(*shape)
    double = dict(options)
    if "weight" in options:
        double["weight"] = torch.linspace(0.5, 2, shape[1], dtype=torch.double)
    single = {name: value.float() if name == "weight" else value for name, value in double.items()}
    loss, gradient = loss_and_gradient(function, logits, labels, **single)
    expected, exact = (plain_hard if "hard" in options else plain)(logits, labels, **double)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=1e-6)
    eager = error(loss_and_gradient(reference.upsample_cross_entropy, logits, labels, **single)[1], exact)
    limit = 5e-6 if function is reference.upsample_cross_entropy else max(eager + EPSILON, 3e-7)
    assert error(gradient, exact) <= limit


@pytest.mark.parametrize("scale", [(64, 128), (256, 512), (61, 131)])
@pytest.mark.parametrize("kind", ["smooth", "random", "confident"])
def test_gradient_is_no_less_exact_than_torchs_own(scale, kind):
    logits, labels = sample(1, 19, 8, 16, *scale, ignored=0.1)
    if kind == "smooth":
        logits = F.interpolate(logits[:, :, :2, :3], (8, 16), mode="bicubic")
    elif kind == "confident":
        coarse = labels[:, :: scale[0] // 8, :: scale[1] // 16][:, :8, :16].long().clamp(max=18)
        logits = logits + 12 * F.one_hot(coarse, 19).permute(0, 3, 1, 2)
    exact = plain(logits, labels)[1]
    ours = error(loss_and_gradient(cpu_loss.upsample_cross_entropy, logits, labels)[1], exact)
    eager = error(loss_and_gradient(reference.upsample_cross_entropy, logits, labels)[1], exact)
    assert ours <= max(eager, 3e-7)


@pytest.mark.parametrize("spread", [0.0, 50.0, 1e4])
def test_flat_and_extreme_logits_are_as_exact_as_in_torch(spread):
    logits, labels = sample(1, 7, 4, 5, 32, 40, spread=spread)
    loss, gradient = loss_and_gradient(cpu_loss.upsample_cross_entropy, logits, labels, label_smoothing=0.1)
    expected, exact = plain(logits, labels, label_smoothing=0.1)
    eager = error(loss_and_gradient(reference.upsample_cross_entropy, logits, labels, label_smoothing=0.1)[1], exact)
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=1e-6)
    assert error(gradient, exact) <= max(2 * eager, 3e-7)


@pytest.mark.parametrize("size", [(8, 16), (9, 5), (2, 3)])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_gradcheck_of_the_fused_step_in_double_precision(size, options):
    logits, labels = sample(2, 3, 2, 4, *size)
    options = options | ({"weight": torch.tensor([0.5, 1.0, 2.0])} if "weight" in options else {})
    logits = logits.double().requires_grad_()
    assert cpu_loss.applies(logits, labels)
    assert torch.autograd.gradcheck(lambda logits: upsample_cross_entropy(logits, labels, **options), logits)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_give_a_loss_that_is_not(bad):
    logits, labels = sample(1, 5, 4, 4, 32, 32, ignored=0.0)
    logits[0, 2, 1, 1] = bad
    assert not torch.isfinite(upsample_cross_entropy(logits, labels))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"hard": HardPixels()}])
def test_only_ignored_pixels_give_zero_and_a_zero_gradient(options):
    for function in (upsample_cross_entropy, reference.upsample_cross_entropy):
        labels = torch.full((1, 16, 16), 255, dtype=torch.uint8)
        loss, gradient = loss_and_gradient(function, torch.randn(1, 3, 2, 2), labels, **options)
        assert loss.item() == 0.0
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_label_that_names_no_class_is_refused(dtype):
    labels = torch.zeros(1, 16, 16, dtype=dtype)
    labels[0, 7, 3] = 3
    with pytest.raises(IndexError, match=r"label 3 .* 0 to 2"):
        upsample_cross_entropy(torch.randn(1, 3, 2, 2), labels)
    upsample_cross_entropy(torch.randn(1, 3, 2, 2), labels, ignore_index=3)
    if dtype == torch.int64:
        with pytest.raises(IndexError, match="label -4"):
            upsample_cross_entropy(torch.randn(1, 3, 2, 2), labels - 4, ignore_index=-1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": torch.ones(3)}, "weight"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"hard": HardPixels(keep=-1)}, "keep"),
        ({"labels": torch.zeros(2, 8, 8)}, "labels"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        upsample_cross_entropy(torch.randn(1, 4, 2, 2), **{"labels": torch.zeros(1, 8, 8)} | wrong)


def test_ignore_index_may_be_one_of_the_classes():
    logits, labels = sample(1, 4, 3, 3, 24, 24, ignored=0.0)
    loss = upsample_cross_entropy(logits, labels, ignore_index=2)
    expected, _ = plain(logits, labels.where(labels != 2, torch.tensor(255, dtype=torch.uint8)))
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=1e-6)


def test_gradient_is_scaled_by_what_comes_after_the_loss():
    logits, labels = sample(2, 4, 3, 3, 24, 24)
    logits.requires_grad_()
    (upsample_cross_entropy(logits, labels) * 0.4).backward()
    assert error(logits.grad, 0.4 * plain(logits, labels)[1]) <= 3e-7


def test_second_derivative_is_refused_not_wrong():
    logits, labels = sample(1, 4, 3, 3, 24, 24)
    loss = upsample_cross_entropy(logits.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss.square(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_without_a_gradient_the_loss_is_the_same():
    logits, labels = sample(2, 4, 3, 3, 20, 24)
    for options in ({}, {"label_smoothing": 0.1}):
        with torch.no_grad():
            loss = upsample_cross_entropy(logits.requires_grad_(), labels, **options)
        assert not loss.requires_grad
        torch.testing.assert_close(loss, upsample_cross_entropy(logits, labels, **options).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_in_any_layout_are_taken_as_they_are(dtype):
    logits, labels = sample(2, 6, 3, 4, 24, 32)
    logits = logits.to(dtype)
    expected, exact = plain(logits, labels)
    layouts = (
        logits.contiguous(memory_format=torch.channels_last),
        logits.transpose(2, 3).contiguous().transpose(2, 3),
        logits.repeat(1, 2, 1, 1)[:, :6],
    )
    for laid_out in layouts:
        loss, gradient = loss_and_gradient(upsample_cross_entropy, laid_out, labels)
        torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=1e-6)
        assert gradient.dtype == dtype
        assert error(gradient, exact) <= torch.finfo(dtype).eps


def test_labels_may_be_int64_and_of_any_layout():
    logits, labels = sample(2, 6, 3, 4, 24, 32)
    expected = upsample_cross_entropy(logits, labels)
    for other in (labels.long(), labels.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(upsample_cross_entropy(logits, other), expected)


def test_under_autocast_the_loss_is_still_float32():
    logits, labels = sample(2, 6, 3, 4, 24, 32)
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradient = loss_and_gradient(upsample_cross_entropy, logits, labels)
    expected, exact = plain(logits, labels)
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=1e-6)
    assert error(gradient, exact) <= 3e-7


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"hard": HardPixels(0.2, 0.5)}])
def test_number_of_threads_changes_nothing(threads, options):
    logits, labels = sample(1, 6, 21, 4, 168, 32)
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(loss_and_gradient(cpu_loss.upsample_cross_entropy, logits, labels, **options))
    assert all(torch.equal(loss, found[0][0]) and torch.equal(gradient, found[0][1]) for loss, gradient in found)


def test_pixels_that_tie_for_the_last_places_share_them():
    probabilities = torch.tensor([0.9, 0.2, 0.8, 0.8, 0.8, 0.95])
    assert hard_shares(probabilities, HardPixels(0.7, 0.0)).tolist() == [0, 1, 0, 0, 0, 0]
    torch.testing.assert_close(
        hard_shares(probabilities, HardPixels(0.7, 0.5)), torch.tensor([0, 1, 2 / 3, 2 / 3, 2 / 3, 0])
    )
    assert hard_shares(probabilities, HardPixels(0.0, 1.0)).tolist() == [1] * 6
    labels = torch.arange(64, dtype=torch.uint8).view(1, 8, 8) % 3
    loss, gradient = loss_and_gradient(upsample_cross_entropy, torch.zeros(1, 3, 2, 2), labels, hard=HardPixels(0.1))
    expected, exact = loss_and_gradient(
        reference.upsample_cross_entropy, torch.zeros(1, 3, 2, 2), labels, hard=HardPixels(0.1)
    )
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, exact)


def test_hard_pixels_without_a_least_share_may_leave_nothing():
    logits, labels = sample(1, 3, 2, 2, 16, 16, spread=0.1)
    loss, gradient = loss_and_gradient(upsample_cross_entropy, logits, labels, hard=HardPixels(0.01, 0.0))
    assert loss.item() == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("function", [upsample_cross_entropy_and_weight, reference.upsample_cross_entropy_and_weight])
@pytest.mark.parametrize("options", [{}, {"weight": torch.tensor([0.5, 1.0, 0.0, 2.0]), "label_smoothing": 0.1}])
def test_means_of_two_images_by_their_weights_are_the_mean_of_both(function, options):
    logits, labels = sample(2, 4, 3, 3, 24, 24)
    labels[0, 1:] = 255
    doubled = {key: value.double() if isinstance(value, torch.Tensor) else value for key, value in options.items()}
    expected, exact = plain(logits, labels, **doubled)
    logits.requires_grad_()
    parts = [function(logits[image : image + 1], labels[image : image + 1], **options) for image in range(2)]
    assert not any(weight.requires_grad for _, weight in parts)
    assert parts[0][1] < 0.1 * parts[1][1]
    total = sum(mean * weight for mean, weight in parts) / sum(weight for _, weight in parts)
    torch.testing.assert_close(total.detach().double(), expected, rtol=2e-6, atol=1e-6)
    assert error(torch.autograd.grad(total, logits)[0], exact) <= 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("hard", [None, HardPixels(0.4, 0.3)])
def test_loss_of_pixels_that_all_weigh_nothing_is_zero_and_so_is_its_gradient(hard, smoothing):
    logits, labels = sample(2, 5, 6, 8, 48, 64)
    labels[labels != 255] = 3
    options = {"weight": torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0]), "label_smoothing": smoothing, "hard": hard}
    for function in (cpu_loss.upsample_cross_entropy, reference.upsample_cross_entropy):
        loss, gradient = loss_and_gradient(function, logits, labels, **options)
        assert loss == 0
        assert not gradient.any()


def test_weight_of_the_mean_is_that_of_the_pixels_that_count():
    logits, labels = sample(1, 4, 3, 3, 24, 24)
    labelled = int((labels != 255).sum())
    for function in (upsample_cross_entropy_and_weight, reference.upsample_cross_entropy_and_weight):
        assert function(logits, labels)[1] == labelled
        assert function(logits, labels, hard=HardPixels(0.0, 0.25))[1] == pytest.approx(math.ceil(0.25 * labelled))
        assert function(logits, torch.full_like(labels, 255))[1] == 0
