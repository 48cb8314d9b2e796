"""A graph as an ONNX file."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastscnn.inference.export_graph import DIMENSIONS, ExportGraph
from fastscnn.inference.files.runtimes import INPUT
from fastscnn.utils.errors import RequestError

OPSET = 18


def write_onnx(graph: nn.Module, path: str | Path | io.BytesIO, *, size: tuple[int, int] | None = None) -> None:
    """Write a graph as one ONNX file, its weights inside, with the input `images`.

    Any size is written by torch's tracing exporter, in half a second; the newer one gives a file of the same speed in
    10 seconds. A fixed size is written by the newer one, which knows more layers (the unpooling of SegNet and ENet).

    Args:
        graph: An `ExportGraph`; or, with a size, any network that maps float32 images [B, 3, H, W] to one tensor.
        path: Where to; or a buffer, where the size is any.
        size: Height and width, with a batch of one; None for any batch, height and width.

    Raises:
        RequestError: A package is missing.
    """
    dtype = torch.uint8 if getattr(graph, "input", None) == "uint8" else torch.float32
    images = torch.zeros((1, 3, *size) if size else (2, 3, 72, 104), dtype=dtype)
    output = graph.output if isinstance(graph, ExportGraph) else "output"
    target: Any = path if isinstance(path, io.BytesIO) else str(path)
    options: dict[str, Any]
    if size:
        options = {"dynamo": True, "external_data": False, "verbose": False}
    else:
        axes = {INPUT: ("batch", "channels", "height", "width"), output: DIMENSIONS[output]}
        fixed = ("channels", "classes")
        dynamic = {name: {i: dim for i, dim in enumerate(dims) if dim not in fixed} for name, dims in axes.items()}
        options = {"dynamo": False, "dynamic_axes": dynamic}
    try:
        with _silent(), torch.inference_mode():
            torch.onnx.export(
                graph,
                (images,),
                target,
                input_names=[INPUT],
                output_names=[output],
                opset_version=OPSET,
                **options,
            )
    except ImportError as error:
        raise RequestError(
            f"An ONNX file needs the package {error.name}, which is not installed.",
            key="format",
            fix="Run pip install onnx onnxscript.",
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporters' remarks and their own deprecations off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
