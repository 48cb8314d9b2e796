"""An exported file in its own runtime, and whether it says what the network says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.export_graph import ExportGraph
from fastscnn.inference.external import named
from fastscnn.inference.loader import Trained
from fastscnn.inference.runtimes import value
from fastscnn.kernels import upsample_labels
from fastscnn.models.blocks import downscale, resize
from fastscnn.utils.errors import Crash, RequestError

Run = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""An exported file that is ready to run: images, as the file takes them, to its answer."""
Shape = tuple[int, int, int]

SIZES: tuple[Shape, ...] = ((2, 360, 480), (1, 97, 203), (3, 33, 65), (1, 8, 200), (2, 16, 8), (1, 1, 1))
"""Batch, height and width of the images that an export is tried with."""
TOLERANCE = 1e-4
"""How far a logit may be off, as a share of the largest one; rounding alone is a tenth of that."""


@dataclass(frozen=True)
class Interface:
    """What an exported file takes and gives.

    Attributes:
        input: As `ExportGraph` has it.
        output: As `ExportGraph` has it.
        classes: Their number.
        scale: Height and width of what the network sees, as a share of the image's.
    """

    input: str
    output: str
    classes: int
    scale: float

    @classmethod
    def of(cls, graph: ExportGraph, trained: Trained) -> "Interface":
        """That of a file which is made of a graph."""
        return cls(graph.input, graph.output, trained.classes.num_classes, trained.scale)

    @classmethod
    def described(cls, described: Mapping[str, str]) -> "Interface":
        """That of a file, by its description; see `fastscnn.export.formats.description`."""
        input = "uint8" if described["normalization"] == "inside" else "normalized"
        output = described["output"].partition(":")[0]
        return cls(input, output, len(value(described, "classes")), float(described["resolution"]))


@dataclass(frozen=True)
class Comparison:
    """How an export differs from its network over all images it was tried with.

    Attributes:
        shapes: Batch, height and width of these images.
        largest: Largest difference of a logit or a probability; None where the output is labels.
        changed: Labels that differ, all of them ties to float32's rounding; None where the output is no labels.
        pixels: Number of labels.
    """

    shapes: tuple[Shape, ...]
    largest: float | None
    changed: int | None
    pixels: int

    def __str__(self) -> str:
        sizes = ", ".join("x".join(str(side) for side in shape) for shape in self.shapes)
        found = (
            f"largest difference {self.largest:.1e}"
            if self.largest is not None
            else f"{self.changed} of {self.pixels:,} labels differ"
        )
        return f"{found} ({sizes})"


def compare(run: Run, graph: ExportGraph, trained: Trained, shapes: Sequence[Shape] = SIZES) -> Comparison:
    """Try an export with images of several sizes against the network as it was trained, BatchNorm and all.

    A logit may be off by `TOLERANCE` of the largest, a probability by as much as such logits make of it. A label may
    differ only where its reference logit is within twice that of the winner's.

    Args:
        run: The export.
        graph: What it was made of, for its input and output.
        trained: The network.
        shapes: Batch, height and width of the images.

    Raises:
        RequestError: It fails, or it disagrees; names the size and the difference.
        Crash: The runtime of a file in a child process (`ExternalRun`) ended.
    """
    interface = Interface.of(graph, trained)
    largest, changed, pixels = 0.0, 0, 0
    for images in test_images(shapes):
        answer = torch.from_numpy(attempt(run, interface, images))
        with torch.inference_mode():
            coarse = trained.network.coarse_logits(network_input(images, trained.scale))
            full = resize(coarse, _size(prepared(images, interface)))
        tolerance = max(TOLERANCE * float(coarse.abs().max()), 1e-6)
        pixels += answer[:, 0].numel() if answer.ndim == 4 else answer.numel()
        if graph.output == "labels":
            chosen = answer.long().clamp(max=full.shape[1] - 1)
            below = full.amax(1) - full.gather(1, chosen[:, None])[:, 0]
            wrong = int(((below > 2 * tolerance) | (chosen != answer)).sum())
            changed += int((full.argmax(1) != answer).sum())
            if wrong:
                raise RequestError(f"{_named(images)}: {wrong} of {answer.numel()} labels are not the network's.")
            continue
        expected = coarse if graph.output == "logits" else full.softmax(1)
        difference = float((answer - expected).abs().max())
        largest = max(largest, difference)
        if not difference <= tolerance:
            raise RequestError(f"{_named(images)}: the {graph.output} are off by {difference:.2g}.")
    of_labels = graph.output == "labels"
    return Comparison(tuple(shapes), None if of_labels else largest, changed if of_labels else None, pixels)


def attempt(run: Run, interface: Interface, images: Tensor) -> npt.NDArray[Any]:
    """Run an export on uint8 images [B, 3, H, W]; its answer, of the right shape and type.

    Raises:
        RequestError: It fails, or its answer is of another shape or type, or not finite.
        Crash: As `compare`.
    """
    given = prepared(images, interface)
    try:
        answer = run(given)
    except Crash:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise RequestError(f"{_named(images)}: {str(error).splitlines()[0]}") from None
    batch = len(images)
    coarse = [-(-side // 8) for side in _size(network_input(images, interface.scale))]
    shape = {
        "labels": (batch, *_size(given)),
        "logits": (batch, interface.classes, *coarse),
        "probabilities": (batch, interface.classes, *_size(given)),
    }[interface.output]
    dtype = np.uint8 if interface.output == "labels" else np.float32
    if answer.shape != shape or answer.dtype != dtype:
        raise RequestError(
            f"{_named(images)}: the answer is {answer.dtype} {list(answer.shape)}, not {dtype.__name__} {list(shape)}."
        )
    if not np.isfinite(answer).all():
        raise RequestError(f"{_named(images)}: the answer is not finite.")
    return answer


def labels_by(run: Run, interface: Interface) -> Callable[[Tensor], Tensor]:
    """What makes train ids, uint8 [B, H, W], of images, uint8 [B, 3, H, W], whatever an export takes and gives."""

    def labels(images: Tensor) -> Tensor:
        answer = torch.from_numpy(run(prepared(images, interface)))
        if interface.output == "labels":
            return answer
        if interface.output == "probabilities":
            return answer.argmax(1).to(torch.uint8)
        return upsample_labels(answer, _size(images))

    return labels


def prepared(images: Tensor, interface: Interface) -> npt.NDArray[Any]:
    """Images uint8 [B, 3, H, W] as an export takes them."""
    given = images if interface.input == "uint8" else network_input(images, interface.scale)
    array: npt.NDArray[Any] = given.contiguous().numpy()
    return array


def network_input(images: Tensor, scale: float) -> Tensor:
    """Images uint8 [B, 3, H, W] as the network takes them."""
    return downscale(normalize(images), scale)


def test_images(shapes: Sequence[Shape]) -> list[Tensor]:
    """Smooth pictures with noise, the same ones each time; uint8 [B, 3, H, W] each."""
    random = torch.Generator().manual_seed(0)
    images = []
    for batch, height, width in shapes:
        coarse = torch.rand(batch, 3, 5, 7, generator=random) * 255
        noise = 20 * torch.randn(batch, 3, height, width, generator=random)
        images.append((resize(coarse, (height, width)) + noise).clamp(0, 255).to(torch.uint8))
    return images


def _size(images: Any) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _named(images: Tensor) -> str:
    batch, _, height, width = images.shape
    return named(batch, height, width)
