"""What runs the network up to its coarse logits: torch, ONNX Runtime or OpenVINO, each behind one method."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from fastscnn.errors import RequestError
from fastscnn.inference.fusing import fused
from fastscnn.inference.trained import Trained

BACKENDS = ("torch", "onnx", "openvino")


class Backend(Protocol):
    """A network that is ready to run on the CPU.

    Attributes:
        memory_format: Layout in which it takes images without copying them.
    """

    memory_format: torch.memory_format

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Normalised images, float32 [B, 3, H, W], to the logits before the last upsampling, [B, C, h, w]."""


class TorchBackend:
    """The network in torch: BatchNorm folded, channels_last.

    Args:
        trained: The network.
        precision: `float32`, or `bfloat16` for processors that have it.
        compile: Compile it with `torch.compile`: the first image of each size takes about a minute.
    """

    memory_format = torch.channels_last

    def __init__(self, trained: Trained, precision: str = "float32", *, compile: bool = False) -> None:
        self.dtype = getattr(torch, precision)
        network: Any = fused(trained.network).to(self.dtype)
        self._run = torch.compile(network.coarse_logits) if compile else network.coarse_logits

    def coarse_logits(self, images: Tensor) -> Tensor:
        """See `Backend`."""
        logits: Tensor = self._run(images.to(self.dtype))
        return logits


def needed(module: str, package: str) -> Any:
    """Import a package that not everyone has.

    Raises:
        RequestError: It is not installed; says how it is.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise RequestError(f"backend={module} needs a package that is not installed: pip install {package}.") from None


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Run with so many torch threads, and with as many as before afterwards; None: as many as there are."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
