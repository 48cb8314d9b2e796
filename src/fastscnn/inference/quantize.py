"""An exported file in int8: calibrated on images, judged by its mIoU, with the parts that cost too much in float."""

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from fastscnn.errors import RequestError
from fastscnn.inference.graph import INPUT, ExportGraph
from fastscnn.inference.trained import Trained
from fastscnn.inference.verify import SIZES, attempt, labels_by, load, prepared, test_images
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
    """

    before: float
    after: float
    kept: tuple[str, ...]

    @property
    def drop(self) -> float:
        """Points of mIoU that int8 costs, percent."""
        return 100 * (self.before - self.after)

    def __str__(self) -> str:
        kept = f"; in float32 stay {', '.join(self.kept)}" if self.kept else ""
        change = f"{abs(self.drop):.2f} points {'lost' if self.drop > 0 else 'gained'}"
        return f"mIoU {100 * self.before:.2f} before, {100 * self.after:.2f} after: {change}{kept}"


def quantize(file: Path, format: str, graph: ExportGraph, trained: Trained, calibration: Calibration) -> Quantized:
    """Turn an exported file into int8, in its place.

    Args:
        file: A float32 file that agrees with the network.
        format: `onnx` or `openvino`.
        graph: What it was made of.
        trained: The network.
        calibration: The images and the judge.

    Raises:
        RequestError: A package is missing, the file fails at some size, or every choice of parts costs too much.
    """
    scale = trained.scale
    images = [prepared(image, graph, scale) for image in calibration.images]
    before = calibration.judge(labels_by(load(file, format), graph, scale))
    original = file.with_name(f"float32{file.suffix}")
    for part in _parts(file):
        part.rename(original.with_suffix(part.suffix))
    tried = []
    for kept in KEPT:
        with Progress("int8: calibrating"):
            _QUANTIZERS[format](original, file, images, kept)
        run = load(file, format)
        result = Quantized(before, calibration.judge(labels_by(run, graph, scale)), kept)
        tried.append(result)
        if result.drop <= calibration.max_drop:
            for tried_with in test_images(SIZES):
                attempt(run, graph, tried_with, trained)
            for part in _parts(original):
                part.unlink()
            return result
    best = min(tried, key=lambda result: result.drop)
    raise RequestError(
        f"precision=int8 costs {best.drop:.2f} points of mIoU at best ({100 * best.before:.2f} to "
        f"{100 * best.after:.2f}), more than max_miou_drop={calibration.max_drop}: nothing is written; raise it, "
        "calibrate on other frames, or keep float32."
    )


def _parts(file: Path) -> list[Path]:
    """The files of a model: OpenVINO's has its weights beside it."""
    return [part for part in (file, file.with_suffix(".bin")) if part.exists()]


def _onnx(original: Path, file: Path, images: list[npt.NDArray[Any]], kept: tuple[str, ...]) -> None:
    """By ONNX Runtime's own quantization: the only one whose every convolution it then runs in int8.

    Weights of 7 bits: processors without VNNI add up pairs of products in 16 bits, which 8 would overflow.
    """
    onnx, quantization = _packages("onnx", "onnxruntime.quantization", install="onnx onnxruntime")

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image}

    nodes = [node.name for node in onnx.load(original).graph.node]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises pre-processing, which the graph has had
    try:
        quantization.quantize_static(
            str(original),
            str(file),
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Concat", "Relu"],
            nodes_to_exclude=[name for name in nodes if any(f"/{part}/" in name for part in kept)],
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        root.setLevel(level)


def _openvino(original: Path, file: Path, images: list[npt.NDArray[Any]], kept: tuple[str, ...]) -> None:
    """By NNCF, with its own guard against the overflow of processors without VNNI."""
    openvino, nncf = _packages("openvino", "nncf", install="openvino nncf")
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        openvino.Core().read_model(str(original)),
        nncf.Dataset(images, lambda image: {INPUT: image}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(patterns=[f".*/{part}/.*" for part in kept], validate=False),
    )
    openvino.save_model(quantized, file, compress_to_fp16=False)


def _packages(*names: str, install: str) -> list[Any]:
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise RequestError(
            f"precision=int8 needs {error.name}, which is not installed: pip install {install}."
        ) from None


_QUANTIZERS = {"onnx": _onnx, "openvino": _openvino}
