"""Whether an exported file gives what its network gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastscnn.inference.export_graph import ExportGraph
from fastscnn.inference.files.external import described_images
from fastscnn.inference.files.interface import SIZES, Interface, Run, Shape, checked_output, network_input, test_images
from fastscnn.inference.loader import Trained
from fastscnn.inference.padding import padded
from fastscnn.kernels import upsample_labels
from fastscnn.models.blocks import resize
from fastscnn.utils.errors import RequestError

TOLERANCE = 1e-4
"""How far a logit may be off, as a share of the largest one; rounding alone is a tenth of that."""


@dataclass(frozen=True)
class Comparison:
    """How a file differs from its network over all images that it was tried with.

    Attributes:
        shapes: Batch, height and width of these images.
        largest: Largest difference of a logit or a probability; None if the output is labels.
        changed: Labels that differ, all of them ties to float32's rounding; None if the output is not labels.
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
    """Compare a file with the network as it was trained, BatchNorm included, on images of several sizes.

    A logit may be off by `TOLERANCE` of the largest, a probability by the same number. A label may differ only if its
    logit in the network is within twice that of the highest logit.

    Args:
        run: The file.
        graph: The graph that it was made of, for its input and output.
        trained: The network.
        shapes: Batch, height and width of the images.

    Raises:
        RequestError: The file fails, or it disagrees; names the size and the difference.
        Crash: The runtime of a file in a child process (`ExternalRun`) ended.
    """
    interface = Interface.of(graph, trained)
    largest, changed, pixels = 0.0, 0, 0
    for images in test_images(shapes):
        output = torch.from_numpy(checked_output(run, interface, images))
        which = described_images(len(images), *images.shape[2:])
        with torch.inference_mode():
            coarse = trained.network.coarse_logits(network_input(images, trained.scale)) / trained.temperature
            height, width = interface.prepared(images).shape[2:]
            full = resize(coarse, (height, width))
        tolerance = max(TOLERANCE * float(coarse.abs().max()), 1e-6)
        pixels += output[:, 0].numel() if output.ndim == 4 else output.numel()
        if graph.output == "labels":
            chosen = output.long().clamp(max=full.shape[1] - 1)
            below = full.amax(1) - full.gather(1, chosen[:, None])[:, 0]
            wrong = int(((below > 2 * tolerance) | (chosen != output)).sum())
            changed += int((full.argmax(1) != output).sum())
            if wrong:
                raise RequestError(f"{which}: {wrong} of {output.numel()} labels are not the network's.")
            continue
        expected = coarse if graph.output == "logits" else full.softmax(1)
        difference = float((output - expected).abs().max())
        largest = max(largest, difference)
        if not difference <= tolerance:
            raise RequestError(f"{which}: the {graph.output} are off by {difference:.2g}.")
    of_labels = graph.output == "labels"
    return Comparison(tuple(shapes), None if of_labels else largest, changed if of_labels else None, pixels)


def labels_by(run: Run, interface: Interface) -> Callable[[Tensor], Tensor]:
    """A function from images, uint8 [B, 3, H, W], to train ids, uint8 [B, H, W], by a file of any output."""

    def labels(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        images = padded(images, interface.multiple)
        output = torch.from_numpy(run(interface.prepared(images)))
        if interface.output == "logits":
            found = upsample_labels(output, (images.shape[2], images.shape[3]))
        else:
            found = output if interface.output == "labels" else output.argmax(1).to(torch.uint8)
        return found[:, :height, :width]

    return labels
