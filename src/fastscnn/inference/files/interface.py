"""What an exported file takes and gives, and images to try it with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.export_graph import ExportGraph
from fastscnn.inference.files.external import described_images
from fastscnn.inference.files.runtimes import value
from fastscnn.inference.loader import Trained
from fastscnn.models.blocks import downscale, resize
from fastscnn.utils.errors import Crash, RequestError

Run = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""An exported file that is ready to run: images, as the file takes them, to its output."""
Shape = tuple[int, int, int]

SIZES: tuple[Shape, ...] = ((2, 360, 480), (1, 97, 203), (3, 33, 65), (1, 8, 200), (2, 16, 8), (1, 1, 1))
"""Batch, height and width of the images that a file is tried with."""


@dataclass(frozen=True)
class Interface:
    """What an exported file takes and gives.

    Attributes:
        input: As `ExportGraph` has it.
        output: As `ExportGraph` has it.
        classes: Number of classes.
        scale: Height and width of what the network sees, as a share of the image's.
        stride: Pixels of what the network sees to one of its coarse logits.
        multiple: What height and width of images are best multiples of.
    """

    input: str
    output: str
    classes: int
    scale: float
    stride: int = 8
    multiple: int = 1

    @classmethod
    def of(cls, graph: ExportGraph, trained: Trained) -> "Interface":
        """The interface of a file that is made of a graph."""
        seen = trained.scale, trained.network.stride, trained.multiple
        return cls(graph.input, graph.output, trained.classes.num_classes, *seen)

    @classmethod
    def described(cls, described: Mapping[str, str]) -> "Interface":
        """The interface of a file by its description; see `fastscnn.export.formats.description`."""
        input = "uint8" if described["normalization"] == "inside" else "normalized"
        output = described["output"].partition(":")[0]
        stride = int(described.get("stride", cls.stride))
        multiple = int(described.get("multiple", cls.multiple))
        if multiple < 1:
            raise ValueError(f"multiple={multiple}")
        return cls(input, output, len(value(described, "classes")), float(described["resolution"]), stride, multiple)

    def prepared(self, images: Tensor) -> npt.NDArray[Any]:
        """Images, uint8 [B, 3, H, W], as the file takes them."""
        given = images if self.input == "uint8" else network_input(images, self.scale)
        array: npt.NDArray[Any] = given.contiguous().numpy()
        return array


def network_input(images: Tensor, scale: float) -> Tensor:
    """Images, uint8 [B, 3, H, W], as the network takes them: normalised, and at its resolution."""
    return downscale(normalize(images), scale)


def checked_output(run: Run, interface: Interface, images: Tensor) -> npt.NDArray[Any]:
    """Run a file on images, uint8 [B, 3, H, W]; returns its output, which has the right shape and type.

    Raises:
        RequestError: It fails, or its output has another shape or type, or is not finite.
        Crash: Its runtime ended the child process that it runs in.
    """
    given = interface.prepared(images)
    batch, height, width = len(images), *given.shape[2:]
    which = described_images(batch, *images.shape[2:])
    try:
        output = run(given)
    except Crash:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise RequestError(f"{which}: {str(error).splitlines()[0]}") from None
    coarse = [-(-side // interface.stride) for side in network_input(images, interface.scale).shape[2:]]
    shape = {
        "labels": (batch, height, width),
        "logits": (batch, interface.classes, *coarse),
        "probabilities": (batch, interface.classes, height, width),
    }[interface.output]
    dtype = np.uint8 if interface.output == "labels" else np.float32
    if output.shape != shape or output.dtype != dtype:
        raise RequestError(
            f"{which}: the output is {output.dtype} {list(output.shape)}, not {dtype.__name__} {list(shape)}."
        )
    if not np.isfinite(output).all():
        raise RequestError(f"{which}: the output is not finite.")
    return output


def test_images(shapes: Sequence[Shape]) -> list[Tensor]:
    """Smooth pictures with noise, the same at each call; uint8 [B, 3, H, W] each."""
    random = torch.Generator().manual_seed(0)
    images = []
    for batch, height, width in shapes:
        coarse = torch.rand(batch, 3, 5, 7, generator=random) * 255
        noise = 20 * torch.randn(batch, 3, height, width, generator=random)
        images.append((resize(coarse, (height, width)) + noise).clamp(0, 255).to(torch.uint8))
    return images
