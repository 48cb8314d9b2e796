"""Writing a graph as a file for each runtime, with a description of the file in it."""

import importlib
import io
import json
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.export_graph import DIMENSIONS, ExportGraph
from fastscnn.inference.files.external import call
from fastscnn.inference.files.runtimes import INPUT, NAMES, TITLE, convert_to_openvino, require_package
from fastscnn.inference.loader import Trained
from fastscnn.inference.onnx_file import write_onnx
from fastscnn.runs.process import version_of
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import plain_json, write_bytes

ANY_SIZE = "any batch, height and width"
SWITCH = "backed_size_oblivious"
"""Of `torch.export`: a side of 1 is a size like any other."""


def description(trained: Trained, graph: ExportGraph, precision: str, metrics: Mapping[str, float]) -> dict[str, str]:
    """All that is needed to use a file without this package; plain text and JSON."""
    kind = "uint8, 0 to 255" if graph.input == "uint8" else "float32, (RGB / 255 - mean) / std"
    output = {
        "labels": "uint8, the class of each pixel",
        "logits": "float32, scores before the last upsampling (bilinear, half-pixel centres)",
        "probabilities": "float32, of each class at each pixel",
    }[graph.output]
    size = "[" + ", ".join(DIMENSIONS[graph.output]) + "]"
    classes = [
        {"id": i, "name": name, "color": list(color)}
        for i, (name, color) in enumerate(zip(trained.classes.names, trained.classes.colors, strict=True))
    ]
    return {
        "input": f"{INPUT}: RGB [batch, 3, height, width], {kind}; {ANY_SIZE}",
        "output": f"{graph.output}: {size}, {output}",
        "classes": json.dumps(classes),
        "class_table": json.dumps(asdict(trained.classes)),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "normalization": "inside" if graph.input == "uint8" else "to be done before",
        "resolution": str(trained.scale),
        "stride": str(trained.network.stride),
        "model": json.dumps(dict(trained.config["model"])),
        "data": trained.classes.name,
        "precision": precision,
        "smallest_side": "1",
        "multiple": str(trained.multiple),
        **({"frame_size": json.dumps(trained.frame_size)} if trained.frame_size else {}),
        "metrics": json.dumps(plain_json(metrics)),
        "version": f"fastscnn {version_of('fastscnn')}, torch {version_of('torch')}",
    }


def from_size(side: int, described: Mapping[str, str]) -> dict[str, str]:
    """The parts of a description that name the smallest height and width in pixels that a file takes."""
    words = described["input"].replace(ANY_SIZE, f"any batch; height and width from {side} up")
    return {"smallest_side": str(side), "input": words}


def write_file(graph: ExportGraph, file: Path, format: str, described: Mapping[str, str]) -> None:
    """Write a graph in float32 for one runtime, with its description.

    Args:
        graph: The graph.
        file: Where to; OpenVINO's weights lie beside it.
        format: `onnx`, `openvino` or `torch`.
        described: What `description` gives.

    Raises:
        RequestError: A package is missing.
        Crash: OpenVINO's conversion ended its process.
        OSError: It cannot be written.
    """
    {"onnx": _onnx, "openvino": _openvino, "torch": _torch}[format](graph, file, described)


def _onnx(graph: ExportGraph, file: Path, described: Mapping[str, str]) -> None:
    try:
        import onnx
    except ImportError:
        raise RequestError(
            "An ONNX file needs the package onnx, which is not installed.", key="format", fix="Run pip install onnx."
        ) from None
    model = onnx.load_from_string(_onnx_bytes(graph))
    onnx.helper.set_model_props(model, dict(described))
    model.producer_name = TITLE
    write_bytes(file, model.SerializeToString())


def _openvino(graph: ExportGraph, file: Path, described: Mapping[str, str]) -> None:
    require_package("openvino")
    call(NAMES["openvino"], "converting an ONNX file", convert_to_openvino, _onnx_bytes(graph), file, dict(described))


def _onnx_bytes(graph: ExportGraph) -> bytes:
    buffer = io.BytesIO()
    write_onnx(graph, buffer)
    return buffer.getvalue()


def _torch(graph: ExportGraph, file: Path, described: Mapping[str, str]) -> None:
    """Write through memory, because torch's own writer aborts the process on a full disk."""
    any_size = torch.export.Dim.DYNAMIC
    images = torch.zeros(2, 3, 72, 104, dtype=torch.uint8 if graph.input == "uint8" else torch.float32)
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
        sides_of_one(),
    ):
        warnings.simplefilter("ignore")
        shapes = {INPUT: {0: any_size, 2: any_size, 3: any_size}}
        program = torch.export.export(graph, (images,), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{TITLE}.json": json.dumps(dict(described))})
    write_bytes(file, buffer.getvalue())


def sides_of_one() -> AbstractContextManager[Any]:
    """Have `torch.export` take a side of 1 as a size like any other; torch has no public name for this.

    Without it a file that does not take such images is refused when it is compared with the network.
    """
    with suppress(ImportError):
        symbols: Any = importlib.import_module("torch.fx.experimental._config")
        if hasattr(symbols, SWITCH):
            patch: AbstractContextManager[Any] = symbols.patch({SWITCH: True})
            return patch
    return nullcontext()
