"""Run by test_kernels_cuda.py with TRITON_INTERPRET=1: Fast-SCNN's Triton layers on the CPU, against the network.

In float16: the interpreter multiplies the bits of bfloat16 instead of its values.
"""

import sys

import torch
from torch import nn

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends.triton import GPUFastSCNN
from fastscnn.models.blocks import downscale
from fastscnn.models.fast_scnn import FastSCNN


def trained(**settings):
    network = FastSCNN(5, **settings).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    return network


def check(network, size, scale=1.0):
    images = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    expected = network.coarse_logits(downscale(normalize(images.permute(0, 3, 1, 2)), scale))
    logits = GPUFastSCNN(network, torch.float16, scale)(images)
    assert logits.shape == expected.shape and logits.dtype == torch.float32
    error = (logits - expected).norm() / expected.norm()
    assert error < 2e-3, f"{size}: {error}"


def main():
    torch.manual_seed(0)
    check(trained(), (2, 17, 35))
    check(trained(activation="relu6", skip="zero"), (1, 32, 48), scale=0.5)


if __name__ == "__main__":
    sys.exit(main())
