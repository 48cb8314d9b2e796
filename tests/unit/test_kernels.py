"""The fused cross-entropy against plain torch in double precision."""

import math

import pytest
import torch
import torch.nn.functional as F

from fastscnn.kernels import cpu, reference, upsample_cross_entropy

SHAPES = [
    # batch, classes, rows, columns, scale down, scale across
    (2, 19, 6, 9, 8, 8),
    (1, 1, 3, 4, 8, 8),
    (3, 2, 1, 1, 8, 8),
    (2, 64, 5, 7, 1, 1),
    (1, 11, 4, 3, 32, 32),
    (2, 5, 4, 6, 3, 5),
    (1, 19, 7, 1, 8, 2),
]


def plain(logits, labels, **arguments):
    logits = logits.detach().double().requires_grad_()
    full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(full, labels.long(), ignore_index=255, **arguments)
    loss.backward()
    return loss.detach(), logits.grad


def sample(batch, classes, rows, columns, down, across, spread=3.0, ignored=0.2):
    generator = torch.manual_seed(rows * 100 + columns)
    logits = torch.randn(batch, classes, rows, columns, generator=generator) * spread
    labels = torch.randint(0, classes, (batch, rows * down, columns * across), dtype=torch.uint8, generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [cpu.upsample_cross_entropy, reference.upsample_cross_entropy])
def test_loss_and_gradient_equal_plain_torch_in_double_precision(shape, function):
    logits, labels = sample(*shape)
    logits.requires_grad_()
    loss = function(logits, labels)
    loss.backward()
    expected, gradient = plain(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-5, atol=1e-6)
    assert (logits.grad - gradient).abs().max() <= 5e-6 * gradient.abs().max() + 1e-12


@pytest.mark.parametrize("spread", [0.0, 50.0, 1e4])
def test_flat_and_extreme_logits_stay_exact(spread):
    logits, labels = sample(1, 7, 4, 5, 8, 8, spread=spread)
    logits.requires_grad_()
    loss = cpu.upsample_cross_entropy(logits, labels)
    loss.backward()
    expected, gradient = plain(logits, labels)
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-5, atol=1e-6)
    assert (logits.grad - gradient).abs().max() <= 1e-5 * gradient.abs().max()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_give_a_loss_that_is_not(bad):
    logits, labels = sample(1, 5, 4, 4, 8, 8, ignored=0.0)
    logits[0, 2, 1, 1] = bad
    assert not torch.isfinite(upsample_cross_entropy(logits, labels))


def test_only_ignored_pixels_give_zero_and_a_zero_gradient():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = upsample_cross_entropy(logits, torch.full((1, 16, 16), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_label_above_the_last_class_is_refused_as_torch_does():
    with pytest.raises(IndexError, match="above 2"):
        cpu.upsample_cross_entropy(torch.randn(1, 3, 2, 2), torch.full((1, 16, 16), 3, dtype=torch.uint8))


def test_gradient_is_scaled_by_what_comes_after_the_loss():
    logits, labels = sample(2, 4, 3, 3, 8, 8)
    logits.requires_grad_()
    (upsample_cross_entropy(logits, labels) * 0.4).backward()
    torch.testing.assert_close(logits.grad.double(), 0.4 * plain(logits, labels)[1], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(17, 23), (6, 71), (3, 3)])
def test_any_other_size_falls_back_to_plain_torch(rows, columns):
    logits = torch.randn(2, 6, 5, 7, requires_grad=True)
    labels = torch.randint(0, 6, (2, rows, columns), dtype=torch.uint8)
    assert not cpu.applies(logits, labels)
    loss = upsample_cross_entropy(logits, labels)
    torch.testing.assert_close(loss.detach().double(), plain(logits, labels)[0], rtol=1e-5, atol=1e-6)


def test_weights_and_smoothing_equal_torchs_own():
    logits, labels = sample(2, 6, 3, 4, 8, 8)
    weight = torch.rand(6, dtype=torch.double) + 0.5
    ours = upsample_cross_entropy(logits, labels, weight=weight.float())
    torch.testing.assert_close(ours.double(), plain(logits, labels, weight=weight)[0], rtol=1e-5, atol=1e-6)
    ours = upsample_cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(ours.double(), plain(logits, labels, label_smoothing=0.1)[0], rtol=1e-5, atol=1e-6)


def test_bfloat16_and_channels_last_logits_are_taken():
    logits, labels = sample(2, 6, 3, 4, 8, 8)
    logits = logits.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    loss = upsample_cross_entropy(logits, labels)
    loss.backward()
    torch.testing.assert_close(loss.detach().double(), plain(logits, labels)[0], rtol=1e-5, atol=1e-6)
    assert logits.grad.dtype == torch.bfloat16


def test_number_of_threads_changes_nothing():
    logits, labels = sample(5, 6, 3, 4, 8, 8)
    before = torch.get_num_threads()
    losses = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        losses.append(cpu.upsample_cross_entropy(logits, labels).item())
    torch.set_num_threads(before)
    assert losses[0] == losses[1] == losses[2]
