"""From pixels to labels and probabilities: what a segmenter needs of an engine, and a CPU backend as one."""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fastscnn.inference.backends.backends import Backend
from fastscnn.inference.preprocess import normalized, size_of
from fastscnn.kernels import upsample_confidence, upsample_labels, upsample_probabilities
from fastscnn.models.blocks import downscale


class Engine(Protocol):
    """What computes labels and probabilities of images: RGB, uint8 [B, H, W, 3], on the CPU.

    The height and width of the output are `size`; None for those of the images.

    Attributes:
        device: The device that computes; the outputs are there.
        smallest_side: The smallest height and width of images, in pixels.
    """

    device: torch.device
    smallest_side: int

    def __call__(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Train ids, uint8 [B, H, W]."""

    def probabilities(
        self, images: Tensor, size: tuple[int, int] | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """Probability of each class, float32 [B, C, H, W]; in `out`, on the CPU, where one is given."""

    def confidence(self, images: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Train ids, and the probability of each, float32 [B, H, W]."""


class FromPixels:
    """A backend on the CPU as an `Engine`: its images are normalised, its logits upsampled in one fused step.

    Args:
        backend: From normalised images to coarse logits.
        scale: Height and width of what the network sees, as a share of the image's.
        temperature: What the logits are divided by before they become probabilities.
    """

    device = torch.device("cpu")

    def __init__(self, backend: Backend, *, scale: float = 1.0, temperature: float = 1.0) -> None:
        self.smallest_side = math.ceil(getattr(backend, "smallest_side", 1) / scale)
        self._backend = backend
        self._scale = scale
        self._temperature = temperature
        self._buffer = torch.empty(0)

    def __call__(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """See `Engine`."""
        return upsample_labels(self._logits(images), size or size_of(images))

    def probabilities(
        self, images: Tensor, size: tuple[int, int] | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """See `Engine`."""
        return upsample_probabilities(self._calibrated(images), size or size_of(images), out)

    def confidence(self, images: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """See `Engine`."""
        return upsample_confidence(self._calibrated(images), size or size_of(images))

    def _calibrated(self, images: Tensor) -> Tensor:
        logits = self._logits(images)
        return logits if self._temperature == 1 else logits / self._temperature

    def _logits(self, images: Tensor) -> Tensor:
        shape = (len(images), 3, *size_of(images))
        if tuple(self._buffer.shape) != shape:
            self._buffer = torch.empty(shape, memory_format=self._backend.memory_format)
        pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = images.numpy()
        return self._backend(downscale(normalized(pixels, self._buffer), self._scale))
