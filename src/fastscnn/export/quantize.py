"""An exported file in int8: calibrated on images, judged by its mIoU, with the parts that cost too much in float."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from fastscnn.export.formats import from_size
from fastscnn.export.quantizers import QUANTIZERS
from fastscnn.inference.external import ExternalRun, call
from fastscnn.inference.runtimes import NAMES, describe
from fastscnn.inference.smallest import EVERY_SIZE, Smallest, smallest_side
from fastscnn.inference.verify import Interface, labels_by, prepared
from fastscnn.utils.errors import RequestError
from fastscnn.utils.machine import processor
from fastscnn.utils.progress import Progress

Labels = Callable[[Tensor], Tensor]

KEPT: tuple[tuple[str, ...], ...] = (
    ("feature_fusion/high",),
    ("feature_fusion",),
    ("feature_fusion", "classifier"),
    ("feature_fusion", "classifier", "learning_to_downsample"),
)
"""Parts that stay in float32, one choice after the other until the drop is small enough.

The detail's convolution in the feature fusion always does: it is 4% of the arithmetic, and in OpenVINO on a processor
without VNNI it alone costs 1.4 points of mIoU on CamVid.
"""


@dataclass(frozen=True)
class Calibration:
    """What int8 is chosen and judged by.

    Attributes:
        images: uint8 [B, 3, H, W] each, as they come in use; a few hundred are enough.
        judge: mIoU, 0 to 1, of what makes labels uint8 [B, H, W] of images uint8 [B, 3, H, W].
        max_drop: Points of mIoU (percent) that int8 may cost.
    """

    images: Sequence[Tensor]
    judge: Callable[[Labels], float]
    max_drop: float = 1.0


@dataclass(frozen=True)
class Quantized:
    """What int8 cost.

    Attributes:
        before: mIoU of the float32 file, 0 to 1.
        after: mIoU of the int8 file.
        kept: Parts that stay in float32.
        smallest: From which size on the file works.
    """

    before: float
    after: float
    kept: tuple[str, ...]
    smallest: Smallest = EVERY_SIZE

    @property
    def drop(self) -> float:
        """Points of mIoU that int8 costs, percent."""
        return 100 * (self.before - self.after)

    def __str__(self) -> str:
        kept = f"; in float32 stay {', '.join(self.kept)}" if self.kept else ""
        change = f"{abs(self.drop):.2f} points {'lost' if self.drop > 0 else 'gained'}"
        score = f"mIoU {100 * self.before:.2f} before, {100 * self.after:.2f} after: {change}{kept}"
        return score if self.smallest.reason is None else f"{score}; {self.smallest}"


def quantize(
    file: Path, format: str, interface: Interface, calibration: Calibration, described: Mapping[str, str]
) -> Quantized:
    """Turn an exported file into int8, in its place.

    All that a runtime does is done in child processes. Where it fails on small images alone, the file's description
    says from which size on it works.

    Args:
        file: A float32 file that agrees with the network.
        format: `onnx` or `openvino`.
        interface: What it takes and gives.
        calibration: The images and the judge.
        described: Its description.

    Raises:
        RequestError: A package is missing, the file fails at large sizes too, or every choice of parts costs too much.
        Crash: A runtime ended its process, where it does so at large sizes too.
    """
    images = _Prepared(calibration.images, interface)
    sizes = sorted({(height, width) for *_, height, width in (image.shape for image in calibration.images)})
    before = _evaluated(file, format, interface, calibration)
    original = file.with_name(f"float32{file.suffix}")
    for part in _parts(file):
        part.rename(original.with_suffix(part.suffix))
    tried = []
    for kept in KEPT:
        with Progress("int8: calibrating"):
            doing = f"calibrating int8 with {len(images)} images of {_span(sizes)}"
            call(NAMES[format], doing, QUANTIZERS[format], original, file, kept, served=images)
        result = Quantized(before, _evaluated(file, format, interface, calibration), kept)
        tried.append(result)
        if result.drop <= calibration.max_drop:
            smallest = smallest_side(file, format, interface)
            parts = from_size(smallest.side, described) | {"processor": processor()}
            call(NAMES[format], "describing an int8 file", describe, file, format, parts)
            for part in _parts(original):
                part.unlink()
            return replace(result, smallest=smallest)
    best = min(tried, key=lambda result: result.drop)
    raise RequestError(
        f"precision=int8 costs {best.drop:.2f} points of mIoU at best ({100 * best.before:.2f} to "
        f"{100 * best.after:.2f}), more than max_miou_drop={calibration.max_drop}: nothing is written; raise it, "
        "calibrate on other frames, or keep float32."
    )


class _Prepared(Sequence[npt.NDArray[Any]]):
    """Images as a file takes them, each made when it is asked for."""

    def __init__(self, images: Sequence[Tensor], interface: Interface) -> None:
        self.images = images
        self.interface = interface

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return prepared(self.images[index], self.interface)


def _span(sizes: Sequence[tuple[int, int]]) -> str:
    """Sizes, as messages show them: the first, and the last where it is another one."""
    return " to ".join(dict.fromkeys(f"{height}x{width}" for height, width in (sizes[0], sizes[-1])))


def _evaluated(file: Path, format: str, interface: Interface, calibration: Calibration) -> float:
    """The mIoU of a file, 0 to 1."""
    with ExternalRun(file, format) as run:
        return calibration.judge(labels_by(run, interface))


def _parts(file: Path) -> list[Path]:
    """The files of a model: OpenVINO's has its weights beside it."""
    return [part for part in (file, file.with_suffix(".bin")) if part.exists()]
