"""An exported file in less than float32: evaluated by its mIoU, and refused where it costs too much.

int8 is calibrated on images, and parts that cost too much stay in float32. bfloat16 is how OpenVINO computes a float32
file on a processor that has it; the file says that this was measured.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from fastscnn.export.formats import from_size
from fastscnn.export.quantizers import QUANTIZERS
from fastscnn.export.verify import labels_by
from fastscnn.inference.files.external import ExternalRun, call
from fastscnn.inference.files.interface import Interface
from fastscnn.inference.files.runtimes import NAMES, describe
from fastscnn.inference.files.smallest import EVERY_SIZE, Smallest, smallest_side
from fastscnn.inference.padding import padded
from fastscnn.utils.errors import RequestError
from fastscnn.utils.machine import processor
from fastscnn.utils.progress import Progress

Labels = Callable[[Tensor], Tensor]

FLOAT32_PARTS: tuple[tuple[str, ...], ...] = (
    ("feature_fusion/high",),
    ("feature_fusion",),
    ("feature_fusion", "classifier"),
    ("feature_fusion", "classifier", "learning_to_downsample"),
)
"""Parts that stay in float32; these choices are tried in turn until the drop is small enough.

The detail's convolution in the feature fusion always stays: it is 4% of the arithmetic, and in OpenVINO on a processor
without VNNI it alone costs 1.4 points of mIoU on CamVid.
"""


@dataclass(frozen=True)
class Calibration:
    """What int8 is calibrated with, and what a lower precision is evaluated with.

    Attributes:
        images: uint8 [B, 3, H, W] each, like those that the file will take; a few hundred are enough. bfloat16 needs
            none.
        evaluate: The mIoU, 0 to 1, of a function from images uint8 [B, 3, H, W] to labels uint8 [B, H, W].
        max_drop: Points of mIoU (percent) that the precision may cost.
    """

    images: Sequence[Tensor]
    evaluate: Callable[[Labels], float]
    max_drop: float = 1.0


@dataclass(frozen=True)
class Quantized:
    """What a lower precision cost.

    Attributes:
        before: mIoU in float32, 0 to 1.
        after: mIoU in int8, or in bfloat16.
        float32_parts: Parts that stay in float32.
        smallest: The smallest image that the file takes.
    """

    before: float
    after: float
    float32_parts: tuple[str, ...]
    smallest: Smallest = EVERY_SIZE

    @property
    def drop(self) -> float:
        """Points of mIoU that the precision costs, percent."""
        return 100 * (self.before - self.after)

    def __str__(self) -> str:
        parts = f"; in float32 stay {', '.join(self.float32_parts)}" if self.float32_parts else ""
        change = f"{abs(self.drop):.2f} points {'lost' if self.drop > 0 else 'gained'}"
        score = f"mIoU {100 * self.before:.2f} before, {100 * self.after:.2f} after: {change}{parts}"
        return score if self.smallest.reason is None else f"{score}; {self.smallest}"


def quantize(
    file: Path, format: str, interface: Interface, calibration: Calibration, described: Mapping[str, str]
) -> Quantized:
    """Turn an exported file into int8, in its place.

    The runtime works in child processes. If it fails on small images only, the file's description says from which size
    on it works.

    Args:
        file: A float32 file that agrees with the network.
        format: `onnx` or `openvino`.
        interface: What it takes and gives.
        calibration: The images and the evaluation.
        described: Its description.

    Raises:
        RequestError: A package is missing, the file fails at large sizes too, or every choice of parts costs too much.
        Crash: A runtime ended its process, at large sizes too.
    """
    images = _Prepared(calibration.images, interface)
    sizes = sorted({(height, width) for *_, height, width in (image.shape for image in calibration.images)})
    before = _evaluated(file, format, interface, calibration)
    original = file.with_name(f"float32{file.suffix}")
    for part in _parts(file):
        part.rename(original.with_suffix(part.suffix))
    tried = []
    for float32_parts in FLOAT32_PARTS:
        with Progress("int8: calibrating"):
            doing = f"calibrating int8 with {len(images)} images of {_span(sizes)}"
            call(NAMES[format], doing, QUANTIZERS[format], original, file, float32_parts, served=images)
        result = Quantized(before, _evaluated(file, format, interface, calibration), float32_parts)
        tried.append(result)
        if result.drop <= calibration.max_drop:
            smallest = _smallest(file, format, interface)
            parts = from_size(smallest.side, described) | measured(result, "int8")
            call(NAMES[format], "describing an int8 file", describe, file, format, parts)
            for part in _parts(original):
                part.unlink()
            return replace(result, smallest=smallest)
    best = min(tried, key=lambda result: result.drop)
    raise _costs_too_much(best, "int8", calibration)


def check_bfloat16(file: Path, interface: Interface, calibration: Calibration) -> Quantized:
    """Measure what bfloat16 costs in an OpenVINO file, and write into the file that it may be computed in it.

    Args:
        file: A float32 file that agrees with the network.
        interface: What it takes and gives.
        calibration: The evaluation.

    Raises:
        RequestError: It costs too much, or this processor does not compute in bfloat16.
    """
    after = _evaluated(file, "openvino", interface, calibration, "bfloat16")
    result = Quantized(_evaluated(file, "openvino", interface, calibration), after, ())
    if result.drop > calibration.max_drop:
        raise _costs_too_much(result, "bfloat16", calibration)
    call(NAMES["openvino"], "describing a bfloat16 file", describe, file, "openvino", measured(result, "bfloat16"))
    return result


def measured(result: Quantized, precision: str) -> dict[str, str]:
    """The parts of a description that say what a precision cost, and on which processor."""
    return {"processor": processor(), "miou": json.dumps({"float32": result.before, precision: result.after})}


def _costs_too_much(best: Quantized, precision: str, calibration: Calibration) -> RequestError:
    return RequestError(
        f"precision={precision} costs at least {best.drop:.2f} points of mIoU ({100 * best.before:.2f} to "
        f"{100 * best.after:.2f}), more than max_miou_drop={calibration.max_drop}: nothing is written.",
        key="max_miou_drop",
        fix="Raise it, calibrate on other frames, or set precision=float32.",
    )


def _smallest(file: Path, format: str, interface: Interface) -> Smallest:
    try:
        return smallest_side(file, format, interface)
    except RequestError as error:
        problem = f"precision=int8: the int8 file does not run in {NAMES[format]}: {error}"
        raise RequestError(problem, key="precision", fix="Set precision=float32.") from None


class _Prepared(Sequence[npt.NDArray[Any]]):
    """Images as a file takes them, each prepared when it is read."""

    def __init__(self, images: Sequence[Tensor], interface: Interface) -> None:
        self.images = images
        self.interface = interface

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.interface.prepared(padded(self.images[index], self.interface.multiple))


def _span(sizes: Sequence[tuple[int, int]]) -> str:
    """Sizes, as messages show them: the first, and the last if it differs."""
    return " to ".join(dict.fromkeys(f"{height}x{width}" for height, width in (sizes[0], sizes[-1])))


def _evaluated(
    file: Path, format: str, interface: Interface, calibration: Calibration, precision: str = "float32"
) -> float:
    """The mIoU of a file, 0 to 1."""
    with ExternalRun(file, format, precision) as run:
        return calibration.evaluate(labels_by(run, interface))


def _parts(file: Path) -> list[Path]:
    """The files of a model: OpenVINO keeps the weights in a second one."""
    return [part for part in (file, file.with_suffix(".bin")) if part.exists()]
