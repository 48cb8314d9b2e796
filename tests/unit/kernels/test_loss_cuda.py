"""The fused loss in Triton: in its interpreter on any machine that has Triton, and as it is on a GPU."""

import math

import pytest
import torch
import torch.nn.functional as F

from fastscnn.kernels import reference, upsample_cross_entropy
from fastscnn.kernels.cuda import loss as cuda_loss
from fastscnn.kernels.reference import HardPixels
from warm import run_program

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def test_loss_in_the_interpreter():
    run_program("interpreted_loss.py", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_sums_of_a_thousand_pixels_in_the_interpreter():
    run_program("interpreted_loss.py", "many", TRITON_INTERPRET="1")


def test_loss_compiles_for_an_h100():
    run_program("compiled_loss.py")


def test_tensors_on_the_cpu_are_not_for_the_gpu():
    assert not cuda_loss.applies(torch.zeros(1, 2, 3, 4), torch.zeros(1, 6, 8, dtype=torch.uint8))


@pytest.mark.parametrize("probability", [1.0, 0.7, 0.5, 1e-6])
def test_a_pixel_that_has_just_the_probability_is_not_below_it(probability):
    lowest = cuda_loss._above(probability)
    at = float(torch.tensor(-math.log(probability)))
    assert at < lowest <= max(at * (1 + 3e-7), 1e-37)
    assert cuda_loss._above(0.0) == math.inf


SHAPES = [
    (2, 19, 128, 256, (1024, 2048)),
    (2, 19, 32, 64, (1024, 2048)),
    (1, 11, 45, 60, (360, 480)),
    (1, 7, 11, 7, (333, 90)),
    (2, 64, 130, 170, (50, 60)),
    (1, 256, 9, 9, (100, 77)),
    (3, 5, 1, 1, (30, 40)),
]


def random_batch(batch, classes, height, width, size, dtype=torch.float32, labels=torch.uint8):
    logits = torch.randn(batch, classes, height, width, device="cuda") * 3
    targets = torch.randint(0, classes, (batch, *size), device="cuda")
    targets[torch.rand(targets.shape, device="cuda") < 0.1] = 255
    return logits.to(dtype), targets.to(labels)


def derived(loss, logits, labels, *settings):
    logits = logits.detach().requires_grad_()
    value = loss(logits, labels, *settings)
    return value.detach().double(), torch.autograd.grad(value, logits)[0].double()


SETTINGS = {
    "plain": (255, None, 0.0, None),
    "weights and smoothing": (255, 1.0, 0.1, None),
    "hard pixels": (255, None, 0.0, HardPixels(0.7, 0.3)),
}


@on_gpu
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_no_further_from_float64_than_those_of_torch(shape, memory_format, settings):
    logits, labels = random_batch(*shape)
    logits = logits.contiguous(memory_format=memory_format)
    ignore_index, weight, smoothing, hard = SETTINGS[settings]
    weight = None if weight is None else torch.rand(shape[1], device="cuda")
    chosen = ignore_index, weight, smoothing, hard
    assert cuda_loss.applies(logits, labels)
    loss, gradient = derived(upsample_cross_entropy, logits, labels, *chosen)
    exact_loss, exact = derived(reference.upsample_cross_entropy, logits.double(), labels, *chosen)
    eager_loss, eager = derived(reference.upsample_cross_entropy, logits, labels, *chosen)
    assert abs(loss - exact_loss) <= max(1e-6 * exact_loss, 2 * abs(eager_loss - exact_loss))
    largest = exact.abs().max()
    assert (gradient - exact).abs().max() <= max(3e-7 * largest, (eager - exact).abs().max())


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("label_type", [torch.uint8, torch.int64])
def test_half_precision_under_autocast(dtype, label_type):
    logits, labels = random_batch(2, 19, 32, 64, (256, 512), dtype, label_type)
    with torch.autocast("cuda", dtype):
        loss, gradient = derived(upsample_cross_entropy, logits, labels)
    exact_loss, exact = derived(reference.upsample_cross_entropy, logits.double(), labels)
    torch.testing.assert_close(loss, exact_loss, rtol=1e-6, atol=0)
    assert (gradient - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()


@on_gpu
@pytest.mark.parametrize("hard", [None, HardPixels(0.7, 0.5)])
def test_gradients_repeat_to_the_bit(hard):
    logits, labels = random_batch(2, 19, 64, 128, (512, 1024))
    first, *others = (derived(upsample_cross_entropy, logits, labels, 255, None, 0.0, hard) for _ in range(3))
    assert all(torch.equal(first[1], other[1]) and first[0] == other[0] for other in others)


@on_gpu
def test_nothing_waits_for_the_gpu_and_a_graph_captures_it():
    logits, labels = random_batch(2, 19, 32, 64, (256, 512))
    weight, hard = torch.rand(19, device="cuda"), HardPixels(0.7, 0.5)
    logits.requires_grad_()

    def step():
        logits.grad = None
        loss = upsample_cross_entropy(logits, labels, 255, weight, 0.1, hard)
        loss.backward()
        return loss.detach()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    gradient = logits.grad
    with torch.no_grad():
        logits.copy_(torch.randn_like(logits))
    graph.replay()
    expected_loss, expected = derived(upsample_cross_entropy, logits, labels, 255, weight, 0.1, hard)
    assert loss == expected_loss.float() and torch.equal(gradient.double(), expected)


@on_gpu
def test_memory_stays_far_below_full_size_logits():
    logits, labels = random_batch(2, 19, 128, 256, (1024, 2048))
    derived(upsample_cross_entropy, logits, labels)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    logits.requires_grad_()
    upsample_cross_entropy(logits, labels, 255, None, 0.0, HardPixels(0.7, 0.1)).backward()
    assert torch.cuda.max_memory_allocated() - before < 8 * labels.numel() + 4 * logits.nbytes
    full = F.interpolate(logits.detach()[:, :1], labels.shape[1:]).nbytes * logits.shape[1]
    assert 8 * labels.numel() + 4 * logits.nbytes < full / 2


@on_gpu
def test_a_label_that_is_no_class_makes_the_loss_undefined():
    logits, labels = random_batch(1, 19, 8, 8, (64, 64), labels=torch.int64)
    labels[0, 5, 5] = 19
    loss, gradient = derived(upsample_cross_entropy, logits, labels)
    assert loss.isnan() and gradient.isnan().any() and gradient.isfinite().any()
