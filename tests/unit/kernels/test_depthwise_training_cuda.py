"""Depthwise convolutions in training in Triton: in its interpreter on any machine with Triton, and on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastscnn.kernels.cuda import depthwise_training as cuda_depthwise
from warm import run_program

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
LAST = torch.channels_last


def test_depthwise_convolutions_in_the_interpreter():
    run_program("interpreted_depthwise.py", TRITON_INTERPRET="1")


def test_depthwise_convolutions_compile_for_an_h100():
    run_program("compiled_depthwise.py")


def layer(channels=8, stride=1, dilation=1, **options):
    geometry = {"stride": stride, "padding": dilation, "dilation": dilation, "groups": channels, "bias": False}
    return nn.Conv2d(channels, channels, 3, **geometry | options)


def features(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=LAST)


@pytest.mark.parametrize(
    ("convolution", "served"),
    [
        (layer(), True),
        (layer(stride=2), True),
        (layer(dilation=4), True),
        (layer(stride=2, dilation=2), False),
        (layer(stride=(1, 2)), False),
        (layer(stride=3), False),
        (layer(dilation=(1, 2), padding=(1, 2)), False),
        (layer(padding=0), False),
        (layer(padding="same"), False),
        (layer(bias=True), False),
        (layer(groups=4), False),
        (layer(padding_mode="reflect"), False),
        (nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False), False),
        (nn.Conv2d(8, 8, 5, padding=1, groups=8, bias=False), False),
        (nn.ConvTranspose2d(8, 8, 3, padding=1, groups=8, bias=False), False),
        (nn.BatchNorm2d(8), False),
    ],
)
def test_only_these_layers_are_served(convolution, served):
    assert cuda_depthwise.serves(convolution) is served


SERVED = features(2, 8, 3, 3)
UNSERVED = {
    "channels apart": (SERVED.contiguous(), layer()),
    "float64": (SERVED.double(), layer()),
    "weights in half precision": (SERVED.bfloat16(), layer().bfloat16()),
    "no pixel": (features(2, 8, 0, 3), layer()),
    "other channels": (SERVED, layer(4)),
    "no image": (SERVED.flatten(), layer()),
    "a tensor of a class of its own": (nn.Parameter(SERVED), layer()),
    "weights elsewhere": (SERVED, layer().to("meta")),
}


@pytest.mark.parametrize("case", UNSERVED)
def test_what_the_programs_do_not_take_is_torchs(monkeypatch, case):
    assert not cuda_depthwise.applies(SERVED, layer()), "on the CPU"
    monkeypatch.setattr(cuda_depthwise, "_runs_on", lambda device: True)
    for convolution in (layer(), layer().to(memory_format=LAST)):
        assert cuda_depthwise.applies(SERVED, convolution) and cuda_depthwise.applies(SERVED.half(), convolution)
    assert not cuda_depthwise.applies(*UNSERVED[case])


def test_a_weight_that_lies_otherwise_is_torchs(monkeypatch):
    monkeypatch.setattr(cuda_depthwise, "_runs_on", lambda device: True)
    convolution = layer()
    others = [torch.randn(8, 1, 3, 3).transpose(2, 3), torch.randn(16, 1, 3, 3)[::2]]
    for other in (*others, torch.randn(80).as_strided((8, 1, 3, 3), (9, 9, 3, 0))):
        convolution.weight = nn.Parameter(other)
        assert not cuda_depthwise.applies(SERVED, convolution)


def test_what_autocast_would_convert_and_what_is_compiled_is_torchs(monkeypatch):
    monkeypatch.setattr(cuda_depthwise, "_runs_on", lambda device: True)
    with torch.autocast("cpu", torch.bfloat16):
        assert cuda_depthwise.applies(SERVED.bfloat16(), layer()) and not cuda_depthwise.applies(SERVED, layer())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not cuda_depthwise.applies(SERVED, layer())


@pytest.mark.parametrize(
    "shape", [(2, 1, 1, 1), (12, 32, 256, 512), (12, 384, 64, 128), (12, 768, 32, 64), (1, 1000, 3, 5)]
)
def test_tiles_are_shared_out_among_enough_programs_and_not_too_many(shape):
    tiles = cuda_depthwise.shares(*shape)
    programs, across = tiles.grid(shape[1])
    assert (programs - 1) * tiles.tiles < tiles.total <= programs * tiles.tiles
    assert tiles.rows * tiles.columns * tiles.channels <= cuda_depthwise.VALUES
    assert programs * across <= cuda_depthwise.PROGRAMS
    assert programs * across >= min(cuda_depthwise.PROGRAMS / 2, tiles.total * across) * 0.9


SHAPES = [
    ((2, 32, 128, 256), 2, 1),
    ((2, 384, 32, 64), 1, 1),
    ((1, 128, 64, 128), 1, 4),
    ((3, 19, 33, 17), 2, 1),
    ((12, 768, 16, 32), 1, 1),
]


def derived(call, images, weight, gradient):
    images, weight = images.detach().requires_grad_(), weight.detach().requires_grad_()
    out = call(images, weight)
    return [out.detach(), *torch.autograd.grad(out, [images, weight], gradient.to(out.dtype))]


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("shape", "stride", "dilation"), SHAPES)
def test_depthwise_convolutions_on_the_gpu(shape, stride, dilation, dtype):
    convolution = layer(shape[1], stride, dilation).cuda().to(memory_format=LAST)
    images = features(*shape, dtype=dtype, device="cuda")
    assert cuda_depthwise.serves(convolution) and cuda_depthwise.applies(images, convolution)

    def plain(images, weight):
        return F.conv2d(images, weight, None, stride, dilation, dilation, shape[1])

    def ours(images, weight):
        return cuda_depthwise._Depthwise.apply(images, weight, stride, dilation)

    gradient = torch.randn_like(plain(images.float(), convolution.weight)).to(dtype)
    exact = derived(plain, images.double(), convolution.weight.double(), gradient)
    first, second = (derived(ours, images, convolution.weight, gradient) for _ in range(2))
    for name, found, other, expected in zip(("output", "features", "weight"), first, second, exact, strict=True):
        assert torch.equal(found, other), f"{name} repeats to the bit"
        largest = expected.abs().max()
        allowed = (1e-5 if name == "weight" else 2 * torch.finfo(found.dtype).eps) * largest
        assert (found.double() - expected).abs().max() <= allowed, name


@on_gpu
@pytest.mark.parametrize("stride", [1, 2])
def test_nothing_waits_for_the_gpu_and_a_graph_captures_it(stride):
    convolution, images = layer(32, stride).cuda(), features(2, 32, 32, 64, device="cuda").requires_grad_()

    def step():
        out = cuda_depthwise.compute(images, convolution)
        return out.detach(), *torch.autograd.grad(out, [images, convolution.weight], torch.ones_like(out))

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
    with torch.no_grad():
        images.copy_(torch.randn_like(images))
    graph.replay()
    assert all(torch.equal(found, expected) for found, expected in zip(captured, step(), strict=True))
