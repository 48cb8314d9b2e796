"""Run by test_depthwise_training_cuda.py with TRITON_INTERPRET=1: the Triton programs against float64."""

import sys

import quick_interpreter  # noqa: F401
import torch
import torch.nn.functional as F
from guarded import guarded
from torch import nn

from fastscnn.kernels.cuda import depthwise_training as cuda_depthwise

LAST = torch.channels_last
CASES = [
    # batch, channels, rows, columns; stride, dilation; type
    ((5, 18, 3, 4), 1, 1, torch.float32),  # five tiles of two programs
    ((2, 5, 9, 7), 2, 1, torch.float32),
    ((1, 3, 1, 1), 2, 1, torch.float32),
    ((1, 16, 9, 5), 1, 4, torch.float32),
    ((2, 9, 8, 8), 2, 1, torch.bfloat16),
    ((1, 6, 1, 4), 1, 2, torch.float16),
]


def depthwise(channels, stride=1, dilation=1, **options):
    geometry = {"stride": stride, "padding": dilation, "dilation": dilation, "groups": channels, "bias": False}
    return nn.Conv2d(channels, channels, 3, **geometry | options)


def derived(features, layer, gradient, *, exact=False):
    """Output, and gradients of features and weights."""
    features = features.detach().requires_grad_()
    if exact:
        weight = layer.weight.double()
        out = F.conv2d(features, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    else:
        out = cuda_depthwise.compute(features, layer)
    return [out.detach(), *torch.autograd.grad(out, [features, layer.weight], gradient)]


def check(shape, stride, dilation, dtype):
    layer = depthwise(shape[1], stride, dilation).to(memory_format=LAST)
    features = torch.randn(shape).to(dtype).contiguous(memory_format=LAST)
    size = [-(-side // stride) for side in shape[2:]]
    gradient = torch.randn(*shape[:2], *size).to(dtype)
    own = derived(features, layer, gradient.contiguous(memory_format=LAST))
    exact = derived(features.double(), layer, gradient.double(), exact=True)
    assert own[0].dtype == own[1].dtype == dtype and own[2].stride() == layer.weight.stride()
    assert own[0].is_contiguous(memory_format=LAST) and own[1].is_contiguous(memory_format=LAST)
    for name, found, expected in zip(("output", "features", "weight"), own, exact, strict=True):
        assert found.shape == expected.shape
        allowed = 2 * torch.finfo(found.dtype).eps * expected.abs().max()
        assert (found.double() - expected).abs().max() <= allowed, f"{name} of {shape}, {stride}, {dilation}, {dtype}"
    return features, layer, gradient, own


def check_cases():
    for case in CASES:
        check(*case)


def check_gradient_with_its_channels_apart():
    features, layer, gradient, own = check((2, 6, 3, 4), 1, 1, torch.float32)
    assert not gradient.is_contiguous(memory_format=LAST)
    assert all(torch.equal(*pair) for pair in zip(own, derived(features, layer, gradient), strict=True))


def check_what_is_asked_for():
    """No gradient is computed that nobody wants, and none of a gradient."""
    launched = []
    launch = cuda_depthwise.launch
    cuda_depthwise.launch = lambda name, *rest, **constants: launched.append(name) or launch(name, *rest, **constants)
    features, layer = torch.randn(1, 4, 3, 3).contiguous(memory_format=LAST), depthwise(4)
    cuda_depthwise.compute(features, layer).sum().backward()
    assert launched == ["convolve_program", "weight_gradient_program", "together_program"]
    launched.clear()
    layer.requires_grad_(False)
    cuda_depthwise.compute(features.requires_grad_(), layer).sum().backward()
    assert launched == ["convolve_program"] * 2
    (gradient,) = torch.autograd.grad(
        cuda_depthwise.compute(features, layer).square().sum(), features, create_graph=True
    )
    try:
        gradient.sum().backward()
    except RuntimeError as error:
        assert "once_differentiable" in str(error)
    else:
        raise AssertionError


def main():
    cuda_depthwise._runs_on = lambda device: True
    cuda_depthwise.launch = guarded(cuda_depthwise.launch)
    torch.manual_seed(0)
    check((1, 32, 5, 9), 1, 1, torch.float32)  # in tiles as a GPU has them
    # A few pixels are many tiles, of several programs and of parts that are put together a few at a time.
    cuda_depthwise.VALUES, cuda_depthwise.MOST_CHANNELS, cuda_depthwise.MOST_ROWS = 256, 16, 4
    cuda_depthwise.PROGRAMS, cuda_depthwise.PARTS = 5, (2, 128)
    for check_part in (check_cases, check_gradient_with_its_channels_apart, check_what_is_asked_for):
        torch.manual_seed(0)
        check_part()


if __name__ == "__main__":
    sys.exit(main())
