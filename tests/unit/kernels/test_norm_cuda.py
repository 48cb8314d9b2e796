"""BatchNorm and its activation in Triton: in its interpreter on any machine that has Triton, and as it is on a GPU."""

import copy

import pytest
import torch
from torch import nn

from fastscnn.kernels.cuda import norm as cuda_norm
from warm import run_program

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
LAST = torch.channels_last


def test_batchnorm_in_the_interpreter():
    run_program("interpreted_norm.py", TRITON_INTERPRET="1")


def test_batchnorm_compiles_for_an_h100():
    run_program("compiled_norm.py")


def features(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=LAST)


SERVED = features(2, 8, 3, 3)
UNSERVED = {
    "evaluated": (SERVED, nn.BatchNorm2d(8).eval()),
    "channels apart": (SERVED.contiguous(), nn.BatchNorm2d(8)),
    "every second pixel": (features(2, 8, 3, 6)[..., ::2], nn.BatchNorm2d(8)),
    "float64": (SERVED.double(), nn.BatchNorm2d(8)),
    "weights in half precision": (SERVED.bfloat16(), nn.BatchNorm2d(8).bfloat16()),
    "no weights": (SERVED, nn.BatchNorm2d(8, affine=False)),
    "no running statistics": (SERVED, nn.BatchNorm2d(8, track_running_stats=False)),
    "one pixel": (features(1, 8, 1, 1), nn.BatchNorm2d(8)),
    "no pixel": (features(2, 8, 0, 3), nn.BatchNorm2d(8)),
    "other channels": (SERVED, nn.BatchNorm2d(4)),
    "no image": (SERVED.flatten(), nn.BatchNorm2d(8)),
    "a tensor of a class of its own": (nn.Parameter(SERVED), nn.BatchNorm2d(8)),
    "weights elsewhere": (SERVED, nn.BatchNorm2d(8, device="meta")),
}


@pytest.mark.parametrize("case", UNSERVED)
def test_what_the_programs_do_not_take_is_torchs(monkeypatch, case):
    monkeypatch.setattr(cuda_norm, "_runs_on", lambda device: True)
    assert cuda_norm.applies(SERVED, nn.BatchNorm2d(8)) and cuda_norm.applies(SERVED.bfloat16(), nn.BatchNorm2d(8))
    assert not cuda_norm.applies(*UNSERVED[case])


def test_a_network_that_is_compiled_has_torchs(monkeypatch):
    monkeypatch.setattr(cuda_norm, "_runs_on", lambda device: True)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not cuda_norm.applies(SERVED, nn.BatchNorm2d(8))


def test_tensors_on_the_cpu_are_not_for_the_gpu():
    assert not cuda_norm.applies(SERVED, nn.BatchNorm2d(8))


@pytest.mark.parametrize(
    ("rows", "channels"), [(2, 1), (12 * 512 * 1024, 32), (12 * 36, 32), (98304, 384), (24576, 576), (7, 1000)]
)
def test_rows_are_shared_out_among_enough_programs_and_not_too_many(rows, channels):
    shares = cuda_norm.shares(rows, channels)
    programs, across = shares.grid(channels)
    each = shares.tiles * shares.rows
    assert (programs - 1) * each < rows <= programs * each and (across - 1) * shares.channels < channels
    assert shares.rows * shares.channels <= cuda_norm.VALUES
    assert programs * across <= cuda_norm.PROGRAMS
    enough = min(cuda_norm.PROGRAMS / 2, -(-rows // shares.rows) * across)
    assert programs * across >= enough * 0.9


SHAPES = [
    (2, 32, 128, 256),
    (3, 48, 65, 33),
    (12, 384, 16, 32),
    (2, 19, 7, 5),
    (12, 32, 1, 1),
]


def derived(call, norm, images, gradient):
    images = images.detach().requires_grad_()
    out = call(images, norm)
    return [out.detach(), *torch.autograd.grad(out, [images, norm.weight, norm.bias], gradient.to(out.dtype))]


@on_gpu
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ReLU6()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_batchnorm_on_the_gpu(shape, dtype, activation):
    images = features(*shape, dtype=dtype, device="cuda") * 2 + 1
    norm, gradient = nn.BatchNorm2d(shape[1], device="cuda"), torch.randn_like(images)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_(0.5)
    assert cuda_norm.applies(images, norm)

    def plain(images, norm):
        out = norm(images).to(dtype).to(images.dtype)
        return out if activation is None else activation(out).to(dtype).to(images.dtype)

    exact_norm, eager_norm = copy.deepcopy(norm).double(), copy.deepcopy(norm)
    exact = derived(plain, exact_norm, images.double(), gradient)
    eager = derived(plain, eager_norm, images.float(), gradient)
    own = derived(lambda images, norm: cuda_norm.compute(images, norm, activation), norm, images, gradient)
    for found, expected, other in zip(own, exact, eager, strict=True):
        rounding = torch.finfo(found.dtype).eps * expected.abs().max()
        assert (found.double() - expected).abs().max() <= max(4 * (other - expected).abs().max(), 4 * rounding)
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer.double(), exact_norm.get_buffer(name).double(), rtol=1e-5, atol=1e-6)


@on_gpu
def test_gradients_repeat_to_the_bit():
    images, norm = features(2, 48, 64, 128, dtype=torch.bfloat16, device="cuda"), nn.BatchNorm2d(48, device="cuda")
    gradient = torch.randn_like(images)

    def found():
        return derived(lambda images, norm: cuda_norm.compute(images, norm, nn.ReLU()), norm, images, gradient)

    first = found()
    assert all(torch.equal(one, other) for _ in range(3) for one, other in zip(first, found(), strict=True))


@on_gpu
@pytest.mark.parametrize("momentum", [0.1, None])
def test_nothing_waits_for_the_gpu_and_a_graph_captures_it(momentum):
    images, norm = features(2, 32, 32, 64, device="cuda"), nn.BatchNorm2d(32, momentum=momentum, device="cuda")
    images.requires_grad_()

    def step():
        norm.zero_grad()
        out = cuda_norm.compute(images, norm, nn.ReLU())
        return out.detach(), *torch.autograd.grad(out, [images, norm.weight, norm.bias], torch.ones_like(out))

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
        captured = step()
    norm.reset_running_stats()
    with torch.no_grad():
        images.copy_(torch.randn_like(images))
    graph.replay()
    buffers = [buffer.clone() for buffer in norm.buffers()]
    norm.reset_running_stats()
    for found, expected in zip((*captured, *buffers), (*step(), *norm.buffers()), strict=True):
        assert torch.equal(found, expected)


@on_gpu
def test_no_tensor_of_full_size_is_kept_but_input_and_output():
    images, norm = features(2, 32, 256, 512, dtype=torch.bfloat16, device="cuda"), nn.BatchNorm2d(32, device="cuda")
    images.requires_grad_()
    before = torch.cuda.memory_allocated()
    out = cuda_norm.compute(images, norm, nn.ReLU())
    assert torch.cuda.memory_allocated() - before < 1.1 * out.nbytes
