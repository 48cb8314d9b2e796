"""Fused labels and probabilities against plain torch."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from fastscnn.kernels import reference, upsample_confidence, upsample_labels, upsample_probabilities
from fastscnn.kernels.cpu import labels as cpu_labels

SHAPES = [
    # batch, classes, rows, columns, size
    (1, 19, 32, 64, (256, 512)),
    (2, 1, 3, 5, (7, 9)),
    (2, 64, 13, 17, (5, 6)),
    (1, 19, 11, 7, (333, 1)),
    (3, 5, 1, 1, (10, 300)),
    (1, 11, 30, 40, (30, 40)),
    (1, 2, 45, 60, (360, 480)),
    (1, 256, 4, 4, (31, 33)),
    (1, 19, 9, 45, (70, 360)),
]


def smooth(batch, classes, rows, columns):
    coarse = torch.randn(batch, classes, -(-rows // 8), -(-columns // 8), generator=torch.manual_seed(3)) * 4
    return F.interpolate(coarse, (rows, columns), mode="bicubic")


def close_calls(batch, classes, rows, columns):
    """Classes that differ by about a rounding step, on top of a large common value."""
    generator = torch.manual_seed(5)
    common = torch.randn(batch, 1, rows, columns, generator=generator) * 100
    return common + torch.randn(batch, classes, rows, columns, generator=generator) * 1e-3


def random(batch, classes, rows, columns):
    return torch.randn(batch, classes, rows, columns, generator=torch.manual_seed(4))


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [random, smooth])
def test_labels_are_torchs_own(shape, kind, threads):
    *dimensions, size = shape
    logits = kind(*dimensions)
    assert cpu_labels.applies(logits)
    labels = upsample_labels(logits, size)
    expected = F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)
    assert labels.dtype == torch.uint8
    assert (labels != expected).sum() <= 1e-6 * expected.numel()


def test_labels_are_torchs_own_also_without_wide_vectors(tmp_path):
    """The inner loops are written in vectors of 16, which a processor without them computes in parts."""
    program = """
import torch
from fastscnn.kernels import upsample_labels
logits = torch.randn(1, 19, 9, 45, generator=torch.manual_seed(4))
for size in ((72, 360), (50, 211)):
    expected = torch.nn.functional.interpolate(logits, size, mode="bilinear").argmax(1)
    assert (upsample_labels(logits, size) != expected).sum() == 0, size
"""
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


def test_labels_that_differ_from_torchs_are_ties_within_rounding():
    logits = close_calls(1, 19, 32, 64)
    labels = upsample_labels(logits, (256, 512)).long()
    exact = F.interpolate(logits.double(), (256, 512), mode="bilinear", align_corners=False)
    chosen = exact.gather(1, labels[:, None])[:, 0]
    assert (exact.amax(1) - chosen).max() < 1e-4, "float32 resolves 1e-5 at 100"


def test_first_class_wins_an_exact_tie_as_in_torch():
    logits = torch.zeros(1, 7, 4, 5)
    logits[:, 3:5] = 1
    assert (upsample_labels(logits, (32, 40)) == 3).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_probabilities_are_within_a_millionth_and_fill_the_buffer(shape, spread, threads):
    *dimensions, size = shape
    logits = random(*dimensions) * spread
    out = torch.full((*dimensions[:2], *size), torch.nan)
    probabilities = upsample_probabilities(logits, size, out)
    full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=False)
    assert probabilities.data_ptr() == out.data_ptr()
    if spread == 1.0:
        assert (probabilities - full.softmax(1)).abs().max() <= 1e-6
    eager = F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(1)
    ours, torchs = ((p - full.softmax(1)).abs().max() for p in (probabilities, eager))
    assert ours <= max(1e-6, 2 * torchs), "no worse than torch's own float32"


@pytest.mark.parametrize("offset", [0, 1, 8])
def test_probabilities_go_into_a_buffer_wherever_it_begins(offset):
    logits = random(1, 5, 6, 7)
    out = torch.full((5 * 48 * 56 + offset,), torch.nan)[offset:].view(1, 5, 48, 56)
    expected = F.interpolate(logits, (48, 56), mode="bilinear", align_corners=False).softmax(1)
    torch.testing.assert_close(upsample_probabilities(logits, (48, 56), out), expected, rtol=0, atol=1e-6)


def test_classes_out_of_float32s_reach_have_no_probability():
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 1, :, 2:], logits[:, 2, :, :2] = 500, 500
    expected = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False).softmax(1)
    torch.testing.assert_close(upsample_probabilities(logits, (32, 32)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
def test_other_types_are_computed_in_float32_or_by_torch(dtype):
    logits = random(1, 5, 6, 7).to(dtype)
    expected = F.interpolate(logits.float(), (48, 56), mode="bilinear", align_corners=False)
    assert (upsample_labels(logits, (48, 56)) != expected.argmax(1)).sum() == 0
    torch.testing.assert_close(upsample_probabilities(logits, (48, 56)), expected.softmax(1), rtol=1e-5, atol=1e-6)


def test_logits_that_are_not_finite_are_left_to_torch():
    logits = random(1, 5, 6, 7)
    logits[0, 2, 3, 3] = torch.nan
    logits[0, 1, 0, 0] = torch.inf
    assert not cpu_labels.applies(logits)
    assert torch.equal(upsample_labels(logits, (48, 56)), reference.upsample_labels(logits, (48, 56)))


def test_channels_last_and_sliced_logits_are_read_in_their_order():
    logits = random(2, 19, 8, 16)
    expected = upsample_labels(logits, (64, 128))
    assert torch.equal(upsample_labels(logits.contiguous(memory_format=torch.channels_last), (64, 128)), expected)
    assert torch.equal(upsample_labels(logits.repeat(1, 1, 1, 2)[..., :16], (64, 128)), expected)


def test_gradients_are_left_to_torch():
    logits = random(1, 3, 4, 5).requires_grad_()
    probabilities = upsample_probabilities(logits, (8, 10))
    probabilities[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


def test_wrong_buffers_and_too_many_classes_are_told():
    logits = random(1, 3, 4, 5)
    with pytest.raises(ValueError, match="float32"):
        upsample_probabilities(logits, (8, 10), torch.empty(1, 3, 8, 11))
    with pytest.raises(ValueError, match="float32"):
        upsample_probabilities(logits, (8, 10), torch.empty(1, 3, 8, 10, dtype=torch.float16))
    with pytest.raises(ValueError, match="257"):
        upsample_labels(torch.zeros(1, 257, 2, 2), (4, 4))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [random, smooth, close_calls])
def test_confidence_is_the_probability_of_the_label_that_wins(shape, kind, threads):
    *dimensions, size = shape
    logits = kind(*dimensions)
    labels, confidence = upsample_confidence(logits, size)
    assert labels.dtype == torch.uint8
    assert confidence.dtype == torch.float32
    assert torch.equal(labels, upsample_labels(logits, size))
    full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=False).softmax(1)
    torch.testing.assert_close(confidence.double(), full.amax(1), rtol=0, atol=5e-5 if kind is close_calls else 1e-6)


def test_confidence_of_a_certain_and_of_an_undecided_pixel():
    certain = torch.zeros(1, 4, 2, 2)
    certain[:, 2] = 1000
    labels, confidence = upsample_confidence(certain, (4, 4))
    assert (labels == 2).all()
    torch.testing.assert_close(confidence, torch.ones(1, 4, 4), rtol=0, atol=1e-6)
    labels, confidence = upsample_confidence(torch.zeros(1, 4, 2, 2), (4, 4))
    assert (labels == 0).all()
    torch.testing.assert_close(confidence, torch.full((1, 4, 4), 0.25), rtol=0, atol=1e-6)


def test_confidence_of_what_the_fused_step_does_not_take_is_torchs():
    logits = torch.randn(1, 3, 2, 2, generator=torch.manual_seed(0))
    logits[0, 1, 0, 0] = torch.inf
    for taken in (logits, torch.randn(1, 3, 2, 2, requires_grad=True)):
        for found, expected in zip(
            upsample_confidence(taken, (4, 4)), reference.upsample_confidence(taken, (4, 4)), strict=True
        ):
            torch.testing.assert_close(found, expected, equal_nan=True)
    with pytest.raises(ValueError, match="256 is the limit"):
        upsample_confidence(torch.zeros(1, 257, 1, 1), (1, 1))


def test_confidence_builds_nothing_of_classes_and_full_size(monkeypatch):
    made = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: made.append(shape) or empty(*shape, **options))
    upsample_confidence(torch.randn(1, 50, 4, 4), (64, 64))
    assert made == [(1, 64, 64), (1, 64, 64)]
