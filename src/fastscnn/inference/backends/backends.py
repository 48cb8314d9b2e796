"""Backends that run the network up to its coarse logits on the CPU: torch, ONNX Runtime and OpenVINO."""

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fastscnn.inference.backends.torch_fused import fused
from fastscnn.inference.export_graph import ExportGraph
from fastscnn.inference.files.runtimes import (
    openvino_core,
    openvino_precision,
    read_description,
    read_openvino,
    require_package,
)
from fastscnn.inference.files.smallest import known_smallest_side
from fastscnn.inference.loader import Trained
from fastscnn.inference.onnx_file import write_onnx

KEPT_SIZES = 4
"""Image sizes for which a program for that size alone is kept."""

Shape = tuple[int, ...]
Program = Callable[[Tensor], Tensor]


class Backend(Protocol):
    """A network that is ready to run on the CPU.

    Attributes:
        memory_format: Layout in which it takes images without copying them.
    """

    memory_format: torch.memory_format

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images, float32 [B, 3, H, W], to the logits before the last upsampling, [B, C, h, w]."""


class TorchBackend:
    """The network in torch: BatchNorm folded, channels_last, activations fused.

    Args:
        network: The network.
        precision: `float32`, or `bfloat16` for processors that have it.
        compile: Compile it with `torch.compile`: the first image of each size takes about a minute.
    """

    memory_format = torch.channels_last

    def __init__(self, network: nn.Module, precision: str = "float32", *, compile: bool = False) -> None:
        self.dtype = getattr(torch, precision)
        ready: Any = fused(network).to(self.dtype)
        self._run = torch.compile(ready, dynamic=False) if compile else ready

    def __call__(self, images: Tensor) -> Tensor:
        """See `Backend`."""
        logits: Tensor = self._run(images.to(self.dtype))
        return logits


class _BySize:
    """A program for images of any size, and a faster one for each size that comes twice in a row.

    Args:
        build: Makes the program for one shape, or for all that the file takes.
        fixed: Whether the file takes one size alone; called after the first program is built.
    """

    def __init__(self, build: Callable[[Shape | None], Program], fixed: Callable[[], bool]) -> None:
        self._build = build
        self._any = build(None)
        self._fixed = fixed()
        self._own: OrderedDict[Shape, Program] = OrderedDict()
        self._last: Shape = ()

    def __call__(self, images: Tensor) -> Tensor:
        shape = tuple(images.shape)
        if shape in self._own:
            self._own.move_to_end(shape)
        elif shape == self._last and not self._fixed:
            self._own[shape] = self._build(shape)
            if len(self._own) > KEPT_SIZES:
                self._own.popitem(last=False)
        self._last = shape
        return self._own.get(shape, self._any)(images)


class OnnxBackend:
    """The network in ONNX Runtime, float32.

    Args:
        file: An ONNX file from normalised images, [B, 3, H, W], to coarse logits.
        threads: Threads of a call; None for torch's own number.

    Attributes:
        smallest_side: The smallest height and width of images; above 1 only for int8 files that export.py wrote.
    """

    memory_format = torch.contiguous_format

    def __init__(self, file: str | Path, threads: int | None = None) -> None:
        self._runtime = require_package("onnx")
        self._model = Path(file).read_bytes()
        self._threads = threads or torch.get_num_threads()
        self._dimensions: list[str | int] = []
        self._described: dict[str, str] = {}
        self._run = _BySize(self._program, lambda: all(isinstance(side, int) for side in self._dimensions))
        self.smallest_side = known_smallest_side(Path(file), "onnx", self._described)

    def __call__(self, images: Tensor) -> Tensor:
        """See `Backend`."""
        return self._run(images)

    def _program(self, shape: Shape | None) -> Program:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        for name, length in zip(self._dimensions, shape or (), strict=False):
            if isinstance(name, str):
                options.add_free_dimension_override_by_name(name, length)
        session = self._runtime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        image = session.get_inputs()[0]
        self._dimensions = image.shape
        self._described = dict(session.get_modelmeta().custom_metadata_map)

        def run(images: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {image.name: images.contiguous().numpy()})[0])

        return run


class OpenVinoBackend:
    """The network in OpenVINO, on the CPU.

    Args:
        file: An ONNX file as `OnnxBackend` takes it, or OpenVINO's own `.xml`.
        precision: `float32`, or `bfloat16` for processors that have it.
        threads: Threads of a call; None for torch's own number.

    Attributes:
        smallest_side: As `OnnxBackend` has it.

    Raises:
        RequestError: This processor has no bfloat16.
    """

    memory_format = torch.contiguous_format

    def __init__(self, file: str | Path, precision: str = "float32", threads: int | None = None) -> None:
        self._core = openvino_core()
        self._file = Path(file).read_bytes() if Path(file).suffix == ".onnx" else str(file)
        self._settings = {
            "INFERENCE_PRECISION_HINT": openvino_precision(self._core, precision),
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        described = read_description(Path(file)) if Path(file).suffix == ".xml" else {}
        self.smallest_side = known_smallest_side(Path(file), "openvino", described)
        self._run = _BySize(self._program, lambda: not self._model().is_dynamic())

    def __call__(self, images: Tensor) -> Tensor:
        """See `Backend`."""
        return self._run(images)

    def _model(self) -> Any:
        if isinstance(self._file, bytes):
            return self._core.read_model(self._file)
        return read_openvino(self._core, self._file)

    def _program(self, shape: Shape | None) -> Program:
        model = self._model()
        if shape:
            model.reshape(list(shape))
        request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()

        def run(images: Tensor) -> Tensor:
            return torch.from_numpy(np.array(request.infer([images.contiguous().numpy()], share_inputs=True)[0]))

        return run


def build_backend(
    trained: Trained, backend: str = "torch", *, precision: str = "float32", threads: int | None = None
) -> Backend:
    """Make a network ready on the CPU.

    Args:
        trained: The network.
        backend: `torch`, `compile`, `onnx` or `openvino`.
        precision: `float32` or `bfloat16`; for `onnx` float32.
        threads: Threads of a call; None for torch's own number.

    Raises:
        RequestError: A package is missing, or the processor has no bfloat16.
    """
    if backend in ("torch", "compile"):
        return TorchBackend(trained.network, precision, compile=backend == "compile")
    require_package(backend)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        plain = replace(trained, config={**trained.config, "calibration": {}})  # whoever calls divides the logits
        write_onnx(ExportGraph(plain, input="normalized", output="logits"), file)
        return OnnxBackend(file, threads) if backend == "onnx" else OpenVinoBackend(file, precision, threads)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set the number of torch threads within a block; None leaves it as it is."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
