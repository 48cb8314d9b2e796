"""int8 by the quantizers of the runtimes; a child process imports this, so that its imports are few."""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fastscnn.inference.files.runtimes import INPUT
from fastscnn.utils.errors import RequestError

Images = Sequence[npt.NDArray[Any]]


def onnx_int8(original: Path, file: Path, float32_parts: tuple[str, ...], images: Images) -> None:
    """By ONNX Runtime's own quantization: the only one whose every convolution it then runs in int8.

    Weights of 7 bits: processors without VNNI add up pairs of products in 16 bits, which 8 would overflow.

    Args:
        original: The float32 file.
        file: Where to.
        float32_parts: Parts that stay in float32.
        images: What it is calibrated on, as the file takes them.
    """
    onnx, quantization = _packages("onnx", "onnxruntime.quantization", install="onnx onnxruntime")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image}

    nodes = [node.name for node in onnx.load(original).graph.node]
    logging.getLogger().setLevel(logging.ERROR)  # it advises pre-processing, which the graph has had
    quantization.quantize_static(
        str(original),
        str(file),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Add", "Concat", "Relu"],
        nodes_to_exclude=[name for name in nodes if any(f"/{part}/" in name for part in float32_parts)],
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def openvino_int8(original: Path, file: Path, float32_parts: tuple[str, ...], images: Images) -> None:
    """By NNCF, with its own guard against the overflow of processors without VNNI; arguments as `onnx_int8`."""
    # NNCF imports it, and it warns wherever CUDA is installed and no GPU is there.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    openvino, nncf = _packages("openvino", "nncf", install="openvino nncf")
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        openvino.Core().read_model(str(original)),
        nncf.Dataset(images, lambda image: {INPUT: image}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(patterns=[f".*/{part}/.*" for part in float32_parts], validate=False),
    )
    openvino.save_model(quantized, file, compress_to_fp16=False)


def _packages(*names: str, install: str) -> list[Any]:
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise RequestError(
            f"precision=int8 needs the package {error.name}, which is not installed.",
            key="precision",
            fix=f"Run pip install {install}.",
        ) from None


QUANTIZERS = {"onnx": onnx_int8, "openvino": openvino_int8}
