"""The files of each runtime: how a graph becomes one, and what the file says about itself."""

import importlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fastscnn.data.normalize import MEAN, STD
from fastscnn.errors import RequestError
from fastscnn.inference.backends import needed
from fastscnn.inference.graph import DIMENSIONS, INPUT, ExportGraph, write_onnx
from fastscnn.inference.trained import Trained
from fastscnn.runs.process import version_of
from fastscnn.utils.files import plain_json

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "safetensors": ""}
"""What a format's file name ends with; safetensors is a folder."""
TITLE = "fastscnn"
"""Where a file holds its description: `rt_info` of OpenVINO, the extra file `fastscnn.json` of torch."""
NO_ONNX = "An ONNX file needs a package that is not installed: pip install onnx."


def description(trained: Trained, graph: ExportGraph, precision: str, metrics: Mapping[str, float]) -> dict[str, str]:
    """What someone needs to use a file without us; plain text and JSON."""
    kind = "uint8, 0 to 255" if graph.input == "uint8" else "float32, (RGB / 255 - mean) / std"
    answer = {
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
        "input": f"{INPUT}: RGB [batch, 3, height, width], {kind}; any batch, height and width",
        "output": f"{graph.output}: {size}, {answer}",
        "classes": json.dumps(classes),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "normalization": "inside" if graph.input == "uint8" else "to be done before",
        "resolution": str(trained.scale),
        "model": json.dumps(dict(trained.config["model"])),
        "data": trained.classes.name,
        "precision": precision,
        "metrics": json.dumps(plain_json(metrics)),
        "version": f"fastscnn {version_of('fastscnn')}, torch {version_of('torch')}",
    }


def write(graph: ExportGraph, file: Path, format: str, described: Mapping[str, str]) -> None:
    """Write a graph in float32 for one runtime, with its description.

    Args:
        graph: The graph.
        file: Where to; OpenVINO's weights lie beside it.
        format: `onnx`, `openvino` or `torch`.
        described: What `description` gives.

    Raises:
        RequestError: A package is missing.
    """
    {"onnx": _onnx, "openvino": _openvino, "torch": _torch}[format](graph, file, described)


def _onnx(graph: ExportGraph, file: Path, described: Mapping[str, str]) -> None:
    try:
        import onnx
    except ImportError:
        raise RequestError(NO_ONNX) from None
    write_onnx(graph, file)
    model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(described))
    model.producer_name = TITLE
    onnx.save(model, file)


def _openvino(graph: ExportGraph, file: Path, described: Mapping[str, str]) -> None:
    """All weights stay in float32; OpenVINO's own default would round them to float16."""
    openvino = needed("openvino")
    with TemporaryDirectory() as folder:
        between = Path(folder, "graph.onnx")
        write_onnx(graph, between)
        model = openvino.Core().read_model(between.read_bytes())
    for key, text in described.items():
        model.set_rt_info(text, [TITLE, key])
    openvino.save_model(model, file, compress_to_fp16=False)


def _torch(graph: ExportGraph, file: Path, described: Mapping[str, str]) -> None:
    symbols: Any = importlib.import_module("torch.fx.experimental._config")
    any_size = torch.export.Dim.DYNAMIC
    images = torch.zeros(2, 3, 72, 104, dtype=torch.uint8 if graph.input == "uint8" else torch.float32)
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
        symbols.patch(backed_size_oblivious=True),  # a side of 1 is a size like any other
    ):
        warnings.simplefilter("ignore")
        shapes = {INPUT: {0: any_size, 2: any_size, 3: any_size}}
        program = torch.export.export(graph, (images,), dynamic_shapes=shapes)
    torch.export.save(program, file, extra_files={f"{TITLE}.json": json.dumps(dict(described))})
