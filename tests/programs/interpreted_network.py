"""Run by test_kernels_cuda.py with TRITON_INTERPRET=1: Fast-SCNN's Triton layers on the CPU, against the network.

In float16 and float32: the interpreter multiplies the bits of bfloat16 instead of its values.
"""

import itertools
import math
import sys
from collections import Counter
from unittest import mock

import quick_interpreter  # noqa: F401
import torch
import torch.nn.functional as F
from own_blocks import edited, shallow
from torch import nn

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends.triton import TritonNetwork
from fastscnn.inference.backends.triton_layers import Pooling
from fastscnn.kernels.cuda import depthwise, layers, pyramid, separable
from fastscnn.kernels.cuda.choice import Choice, chosen
from fastscnn.kernels.cuda.depthwise import Form
from fastscnn.kernels.cuda.layers import WAVE
from fastscnn.kernels.cuda.pyramid import upsample
from fastscnn.kernels.cuda.separable import depthwise_pointwise, filter_shares, product_shares
from fastscnn.models.blocks import PyramidPooling, downscale
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.folding import folded


def trained(**settings):
    """A network whose norms fit its layers' outputs, as training leaves them: its logits depend on every layer."""
    network = FastSCNN(5, **settings).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    network.train().coarse_logits(torch.randn(4, 3, 32, 64))
    return network.eval()


def check(network, size, dtype=torch.float16, scale=1.0):
    """Compare the logits; the names of the layers that computed them come back."""
    images = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    expected = network.coarse_logits(downscale(normalize(images.permute(0, 3, 1, 2)), scale))
    lowered = TritonNetwork(network, dtype, scale)
    logits = lowered(images)
    assert logits.shape == expected.shape and logits.dtype == torch.float32
    error = (logits - expected).norm() / expected.norm()
    assert error < (1e-2 if dtype == torch.float16 else 1e-5), f"{size}: {error}"
    return {type(module).__name__ for module in lowered.modules()}


def check_whole_network():
    """Of Fast-SCNN as it is no layer is left to torch."""
    lowered = TritonNetwork(FastSCNN(5).eval())
    assert not any(isinstance(module, nn.Conv2d | nn.AdaptiveAvgPool2d) for module in lowered.modules())
    names = Counter(type(lowered.graph.get_submodule(name)).__name__ for name in lowered.programs)
    assert names == {"Stem": 1, "Separable": 14, "Pointwise": 9, "Pooling": 1, "Upsample": 1}, names


def check_upsampling():
    for size, target in (((2, 3, 5, 7), (12, 20)), ((1, 40, 4, 4), (9, 5)), ((1, 8, 1, 1), (3, 2))):
        features = torch.randn(*size).half()
        expected = F.interpolate(features.float(), target, mode="bilinear")
        found = upsample(features.permute(0, 2, 3, 1), target).permute(0, 3, 1, 2).float()
        assert (found - expected).abs().max() <= 2e-3, (size, target)


def check_depthwise(dtype, size, stride, dilation, highest, rows=3):
    """A depthwise convolution alone: the two forms have the same bits, and these are right."""
    count, height, width, inputs = size
    storage = torch.full((count + 2, height, width, inputs), torch.nan, dtype=dtype)  # around it lies what is wrong
    features = storage[1:-1].copy_(torch.randn(size))
    taps, bias = torch.randn(9, inputs) / 2, torch.randn(inputs)
    found = []
    for form in (Form(True, rows, 4, 16, 1), Form(False, 2, 4, 16, 1)):
        with mock.patch.object(depthwise, "form_of", lambda *_, form=form: form):
            options = {"stride": stride, "dilation": dilation, "highest": highest}
            found.append(depthwise.depthwise(features, taps, bias, **options))
    planes, weight = features.permute(0, 3, 1, 2).double(), taps.t().reshape(inputs, 1, 3, 3).double()
    expected = F.conv2d(planes, weight, bias.double(), stride, dilation, dilation, groups=inputs).permute(0, 2, 3, 1)
    expected = expected.clamp(0, highest) if highest else expected
    assert torch.equal(*found), (dtype, size, stride, dilation)
    torch.testing.assert_close(found[0], expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


def check_depthwise_forms():
    torch.use_deterministic_algorithms(True)  # what is not written is NaN
    check_depthwise(torch.float16, (2, 5, 6, 20), 1, 1, math.inf)
    check_depthwise(torch.float32, (1, 8, 9, 16), 2, 1, 0.0)
    check_depthwise(torch.bfloat16, (1, 11, 9, 16), 1, 4, 6.0, rows=2)
    check_depthwise(torch.float32, (2, 1, 1, 5), 2, 1, 6.0, rows=1)
    torch.use_deterministic_algorithms(False)
    assert depthwise.can_walk(1, 4) and depthwise.can_walk(2, 1) and not depthwise.can_walk(2, 2)


def check_shared_channels():
    """A small map, whose channels are shared out among blocks, and what they count is 0 afterwards."""
    arrivals = torch.zeros(WAVE, dtype=torch.int32)
    features, weight = torch.randn(1, 5, 6, 96).half(), (torch.randn(96, 24) / 10).half()
    taps, taps_bias, bias = torch.randn(9, 96), torch.randn(96), torch.randn(24)
    assert filter_shares(30, 96).splits > 1 and product_shares(30, 96).splits > 1
    for apart, stride, dilation in itertools.product((0, 96, 97), (1, 2), (1, 2)):
        separable.APART = apart
        filtered = F.conv2d(
            features.permute(0, 3, 1, 2).float(),
            taps.t().reshape(96, 1, 3, 3),
            taps_bias,
            stride,
            dilation,
            dilation,
            groups=96,
        ).relu()
        addend = torch.randn(*filtered.permute(0, 2, 3, 1).shape[:3], 24).half()
        for given in (None, arrivals):
            options = {"stride": stride, "dilation": dilation, "highest_between": math.inf, "addend": addend}
            found = depthwise_pointwise(features, taps, taps_bias, weight, bias, **options, arrivals=given)
            found, wanted = found.float(), (filtered.permute(0, 2, 3, 1) @ weight.float() + bias + addend)
            assert (found - wanted).norm() / wanted.norm() < 2e-3
            assert not arrivals.any()


def check_pyramid_pooling():
    for size, bins, activation in (((2, 32, 5, 7), (1, 2, 3, 6), "relu"), ((1, 48, 20, 9), (2, 4), "relu6")):
        block = PyramidPooling(size[1], 24, bins=bins, activation=activation).eval()
        features = torch.randn(*size).half()
        ready = folded(block)
        stages, last = [stage[1][0] for stage in ready.stages], ready.project[0][0]
        highest = 6.0 if activation == "relu6" else math.inf
        pooling = Pooling(bins, stages, last, highest, highest, torch.float16)
        for pyramid.ACROSS, pyramid.SPLITS in ((128, 16), (16, 2)):
            found = pooling(features).float()
            expected = block(features.float())
            assert (found - expected).norm() / expected.norm() < 1e-3, size
    pyramid.ACROSS, pyramid.SPLITS = 128, 16


@torch.no_grad()
def main():
    torch.manual_seed(0)
    check_upsampling()
    check_pyramid_pooling()
    check_depthwise_forms()
    check_shared_channels()
    check_whole_network()
    with shallow():
        separable.APART = 48
        layers.WAVE = separable.WAVE = separable.FEWEST = 4  # fewer blocks, one after another here
        with chosen(Choice(walks=True)):
            check(trained(), (2, 17, 35))
        layers.WAVE = separable.WAVE = separable.FEWEST = 1  # no channels are shared out
        separable.APART = 1000
        with edited():
            names = check(trained(), (1, 9, 19))  # blocks of a user's own: what there are programs for is taken
        assert {"Stem", "Separable", "Pointwise"} <= names, names
        check(trained(activation="relu6", skip="zero"), (1, 32, 48), torch.float32, scale=0.5)


if __name__ == "__main__":
    sys.exit(main())
