"""An exported file in its own runtime, and whether it says what the network says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.data.normalize import normalize
from fastscnn.errors import RequestError
from fastscnn.inference.backends import needed
from fastscnn.inference.graph import INPUT, ExportGraph
from fastscnn.inference.trained import Trained
from fastscnn.kernels import upsample_labels
from fastscnn.network.blocks import downscale, resize

Run = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
Shape = tuple[int, int, int]

SIZES: tuple[Shape, ...] = ((2, 360, 480), (1, 97, 203), (3, 33, 65), (1, 8, 200), (2, 16, 8), (1, 1, 1))
"""Batch, height and width of the images that an export is tried with."""
TOLERANCE = 1e-4
"""How far a logit may be off, as a share of the largest one; rounding alone is a tenth of that."""


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


def load(file: Path, format: str, threads: int | None = None) -> Run:
    """Open an exported file with the runtime that it is for, on the CPU, in float32 where it is not int8.

    Args:
        file: The file.
        format: `onnx`, `openvino` or `torch`.
        threads: Threads of a call; None for the runtime's own number.

    Raises:
        RequestError: The runtime is not installed.
    """
    if format == "onnx":
        runtime = needed("onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {INPUT: images})[0]
    if format == "openvino":
        core = needed("openvino").Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        program = core.compile_model(
            core.read_model(str(file)), "CPU", settings | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        )
        return lambda images: np.array(program(images)[0])
    module = torch.export.load(file).module()

    def run(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with torch.inference_mode():
            answer: npt.NDArray[Any] = module(torch.from_numpy(images)).numpy()
        return answer

    return run


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
    """
    largest, changed, pixels = 0.0, 0, 0
    for images in test_images(shapes):
        answer = torch.from_numpy(attempt(run, graph, images, trained))
        with torch.inference_mode():
            coarse = trained.network.coarse_logits(network_input(images, trained.scale))
            full = resize(coarse, _size(prepared(images, graph, trained.scale)))
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


def attempt(run: Run, graph: ExportGraph, images: Tensor, trained: Trained) -> npt.NDArray[Any]:
    """Run an export on uint8 images [B, 3, H, W]; its answer, of the right shape and type.

    Raises:
        RequestError: It fails, or its answer is of another shape or type, or not finite.
    """
    given = prepared(images, graph, trained.scale)
    try:
        answer = run(given)
    except Exception as error:  # each runtime has errors of its own
        raise RequestError(f"{_named(images)}: {str(error).splitlines()[0]}") from None
    batch, classes = len(images), trained.classes.num_classes
    coarse = [-(-side // 8) for side in _size(network_input(images, trained.scale))]
    shape = {
        "labels": (batch, *_size(given)),
        "logits": (batch, classes, *coarse),
        "probabilities": (batch, classes, *_size(given)),
    }[graph.output]
    dtype = np.uint8 if graph.output == "labels" else np.float32
    if answer.shape != shape or answer.dtype != dtype:
        raise RequestError(
            f"{_named(images)}: the answer is {answer.dtype} {list(answer.shape)}, not {dtype.__name__} {list(shape)}."
        )
    if not np.isfinite(answer).all():
        raise RequestError(f"{_named(images)}: the answer is not finite.")
    return answer


def labels_by(run: Run, graph: ExportGraph, scale: float) -> Callable[[Tensor], Tensor]:
    """What makes train ids, uint8 [B, H, W], of images, uint8 [B, 3, H, W], whatever an export takes and gives."""

    def labels(images: Tensor) -> Tensor:
        answer = torch.from_numpy(run(prepared(images, graph, scale)))
        if graph.output == "labels":
            return answer
        if graph.output == "probabilities":
            return answer.argmax(1).to(torch.uint8)
        return upsample_labels(answer, _size(images))

    return labels


def prepared(images: Tensor, graph: ExportGraph, scale: float) -> npt.NDArray[Any]:
    """Images uint8 [B, 3, H, W] as the graph takes them."""
    given = images if graph.input == "uint8" else network_input(images, scale)
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
    return f"{batch} image{'s' if batch > 1 else ''} of {height}x{width}"
