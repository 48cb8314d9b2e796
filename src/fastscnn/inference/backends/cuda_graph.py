"""A trained network on a GPU as one CUDA graph for each size of frame: from uint8 pixels to labels in one launch."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.backends.gpu_choices import choice_for
from fastscnn.inference.backends.graph_memory import GraphMemory
from fastscnn.inference.backends.triton import TritonNetwork, obstacle
from fastscnn.inference.deployed import deployed
from fastscnn.inference.preprocess import in_place
from fastscnn.kernels import upsample_confidence, upsample_labels, upsample_probabilities
from fastscnn.kernels.cuda.choice import Choice, chosen
from fastscnn.models.base import SegmentationNetwork
from fastscnn.models.blocks import downscale
from fastscnn.models.graph import CoarseLogits

ENGINES = ("auto", "torch", "compile", "triton")
WARM_UPS = 3


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: Tensor
    output: Any


class NoProgramsError(ValueError):
    """The Triton programs have none of a network's layers."""


class GraphRunner:
    """Labels and probabilities of frames that are replayed through captured CUDA graphs.

    The first call of each (batch, height, width), and size of output, captures its graph, which takes a second, and
    with `compile` some minutes. Our own programs are compiled once on a machine, half a minute for all of them, and
    Triton keeps them. Not safe to call from several threads at a time.

    Args:
        network: A trained network; is left as it is.
        dtype: float16, bfloat16 or float32; sums and logits of engine triton are float32 in any case.
        scale: Height and width of what the network sees, as a share of the image's.
        max_graphs: Graphs that are kept; the one that was used longest ago goes first.
        engine: What computes the layers: `torch` (cuDNN), `compile` (torch.compile), `triton` (our programs;
            layers that they do not have are torch's), or `auto`: `triton` if it can run, else `torch`.
        temperature: What the logits are divided by before they become probabilities.
        device: The GPU. On the CPU the same is computed without a graph, to test it.
        choice: How our programs compute what they compute; None for what is the quickest on this GPU, where that was
            measured, and else usual.

    Attributes:
        fallback: Why `auto` takes `torch`, as a part of a sentence; None if it does not.
        smallest_side: The smallest height and width of frames, in pixels.

    Raises:
        ValueError: The engine is unknown.
        NoProgramsError: The engine is `triton`, which has programs for no layer of this network.
    """

    smallest_side = 1

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        dtype: torch.dtype = torch.float16,
        scale: float = 1.0,
        max_graphs: int = 8,
        engine: str = "torch",
        temperature: float = 1.0,
        device: torch.device | str = "cuda",
        choice: Choice | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.max_graphs = max_graphs
        self.choice = choice
        self.fallback: str | None = None
        self._temperature = temperature
        self._logits = self._engine(network, engine, dtype, scale)
        self._graphs: OrderedDict[tuple[str, tuple[int, ...], tuple[int, int]], _Captured] = OrderedDict()
        self._memory = GraphMemory(self.device) if self.device.type == "cuda" else None

    def __call__(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Train ids of each pixel.

        Args:
            images: RGB, uint8 [B, H, W, 3] or [B, 3, H, W], on the GPU or on the CPU (best in pinned memory).
            size: Height and width of the output; None for those of the images.

        Returns:
            uint8 [B, H, W] on the GPU. The next call of any size writes over it: copy what is to be kept.

        Raises:
            ValueError: They are no such images.
        """
        labels: Tensor = self._run("labels", self._labels, images, size)
        return labels

    def probabilities(
        self, images: Tensor, size: tuple[int, int] | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """Probability of each class at each pixel, float32 [B, C, H, W]; otherwise as `__call__`.

        A copy in `out`, where one is given, which may be on the CPU, is returned in their place.
        """
        probabilities: Tensor = self._run("probabilities", self._probabilities, images, size)
        return in_place(probabilities, out)

    def confidence(self, images: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Train ids, and the probability of each, float32 [B, H, W]; otherwise as `__call__`."""
        pair: tuple[Tensor, Tensor] = self._run("confidence", self._confidence, images, size)
        return pair

    def _engine(
        self, network: SegmentationNetwork, engine: str, dtype: torch.dtype, scale: float
    ) -> Callable[[Tensor], Tensor]:
        """The function from RGB, uint8 [B, H, W, 3], to coarse logits."""
        if engine not in ENGINES:
            raise ValueError(f"engine={engine} is unknown: it is one of {', '.join(ENGINES)}")
        if engine == "auto":
            self.fallback = obstacle(self.device)
        if engine == "triton" or (engine == "auto" and self.fallback is None):
            lowered = TritonNetwork(network, dtype, scale).to(self.device)
            if lowered.programs:
                return lowered
            self.fallback = f"there are Triton programs for no layer of this {type(network).__name__}"
            if engine == "triton":
                raise NoProgramsError(self.fallback)
        return _torch_layers(network, engine == "compile", dtype, scale, self.device)

    def _labels(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        return upsample_labels(self._logits(images), size)

    def _probabilities(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        return upsample_probabilities(self._calibrated(images), size)

    def _confidence(self, images: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return upsample_confidence(self._calibrated(images), size)

    def _calibrated(self, images: Tensor) -> Tensor:
        logits = self._logits(images)
        return logits if self._temperature == 1 else logits.float() / self._temperature

    @torch.no_grad()
    def _run(
        self,
        what: str,
        compute: Callable[[Tensor, tuple[int, int]], Any],
        images: Tensor,
        size: tuple[int, int] | None,
    ) -> Any:
        if images.dtype != torch.uint8 or images.ndim != 4 or 3 not in (images.shape[-1], images.shape[1]):
            raise ValueError(
                f"images are RGB, uint8 [B, H, W, 3] or [B, 3, H, W], and these are {images.dtype} "
                f"{list(images.shape)}: convert them first"
            )
        if images.shape[-1] != 3:
            images = images.permute(0, 2, 3, 1)
        size = size or (images.shape[1], images.shape[2])
        if self._memory is None:
            return compute(images, size)
        with torch.cuda.device(self.device):
            key = what, tuple(images.shape), size
            if key not in self._graphs:
                while len(self._graphs) >= self.max_graphs:
                    torch.cuda.synchronize()  # the last replay may be under way
                    self._graphs.popitem(last=False)[1].graph.reset()
                self._graphs[key] = self._capture(self._memory, lambda static: compute(static, size), images)
            self._graphs.move_to_end(key)
            captured = self._graphs[key]
            captured.images.copy_(images, non_blocking=True)
            captured.graph.replay()
            return captured.output

    def _capture(self, memory: GraphMemory, compute: Callable[[Tensor], Any], images: Tensor) -> _Captured:
        """Run a few times on a side stream, so that all is compiled and allocated, then capture.

        All graphs share one pool of memory, as they never run at the same time: the largest size sets what they take.
        """
        static = torch.empty(images.shape, dtype=torch.uint8, device=self.device)
        static.copy_(images)
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        try:
            with chosen(self.choice or choice_for(self.device, static[..., 0].numel())):
                memory.run_aside(lambda: compute(static), WARM_UPS)
                graph, output = memory.capture(lambda: compute(static))
        finally:
            torch.backends.cudnn.benchmark = benchmark
        return _Captured(graph, static, output)


def _torch_layers(
    network: SegmentationNetwork, compiles: bool, dtype: torch.dtype, scale: float, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The folded network by torch's own layers, compiled or not."""
    body: Any = deployed(CoarseLogits(network)).to(memory_format=torch.channels_last).to(device, dtype)
    # As `normalize`, which makes its constants at each call: a graph cannot capture that.
    mean, deviation = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (MEAN, STD))

    def logits(images: Tensor) -> Tensor:
        pixels = (images.permute(0, 3, 1, 2).float() - mean) / deviation
        values: Tensor = body(downscale(pixels, scale).to(dtype))
        return values

    if compiles:
        compiled: Callable[[Tensor], Tensor] = torch.compile(logits, mode="max-autotune-no-cudagraphs", dynamic=False)
        return compiled
    return logits
