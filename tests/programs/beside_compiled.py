"""Run by test_kernels_cuda.py on a GPU, in a process of its own: our CUDA graphs beside those of torch.compile.

An illegal memory access would end everything after it in the same process.
"""

import gc
import sys
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.models.base import OnlyLogits, SegmentationNetwork
from fastscnn.models.fast_scnn import FastSCNN

SIZES = ((128, 256), (96, 160), (64, 64))
CLASSES = 7


class Products(SegmentationNetwork):
    """A network of matrix products alone, which cuBLAS computes with a workspace."""

    num_classes = CLASSES

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 7))

    def features(self, images):
        pixels = F.avg_pool2d(images, 8).permute(0, 2, 3, 1)
        return OnlyLogits(self.layers(pixels).permute(0, 3, 1, 2))


def frames(size):
    return torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, device="cuda")


def compare(labels, network, images):
    """Labels may differ from float32's where two classes are nearly as good."""
    full = F.interpolate(
        network.coarse_logits(normalize(images.permute(0, 3, 1, 2))), images.shape[1:3], mode="bilinear"
    ).softmax(1)
    chosen = full.gather(1, labels[:, None].long())[:, 0]
    assert (full.amax(1) - chosen).max() < 0.02


def overwrite():
    """Give back what torch holds for later, and fill as much as it takes anew: freed memory does not stay as it was."""
    torch.cuda.empty_cache()
    filled = [torch.full((n,), torch.nan, device="cuda") for n in (2**24, 2**23, 2**20, 2**16, 2**10) for _ in range(3)]
    torch.cuda.synchronize()
    del filled
    torch.cuda.empty_cache()


@torch.no_grad()
def main():
    torch.manual_seed(0)
    products, network = Products().eval().cuda(), FastSCNN(CLASSES).eval().cuda()
    half = deepcopy(products).half()
    compiled = torch.compile(half.coarse_logits, mode="reduce-overhead", dynamic=False)

    # The first graphs of the process, whose pool torch's workspaces would lie in, go.
    for first in (GraphRunner(products), GraphRunner(network, engine="triton")):
        first(frames(SIZES[0]))
    del first
    gc.collect()

    runners = [
        (GraphRunner(products, max_graphs=2), products),
        (GraphRunner(network, engine="triton", max_graphs=2), network),
        (GraphRunner(products, max_graphs=1), products),
    ]
    held = []
    for _ in range(3):
        for size in SIZES:
            images = frames(size)
            pixels = normalize(images.permute(0, 3, 1, 2)).half()
            for runner, whole in runners:
                held.append(runner(images))  # memory of a graph that is evicted meanwhile
                compare(runner(images), whole, images)
            torch.compiler.cudagraph_mark_step_begin()
            torch.testing.assert_close(compiled(pixels).clone(), half.coarse_logits(pixels), rtol=0, atol=2e-2)
            overwrite()
            for runner, whole in runners:
                compare(runner(images), whole, images)
    torch.cuda.synchronize()
    assert all(len(runner._graphs) <= runner.max_graphs for runner, _ in runners)


if __name__ == "__main__":
    sys.exit(main())
