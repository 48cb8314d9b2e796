"""Exported files in the runtimes that they are for. Few imports: a child process imports this and little else."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastscnn.utils.errors import RequestError
from fastscnn.utils.plain_files import DamagedFile
from fastscnn.utils.signal_stack import signal_stack_stays

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The package that runs a format."""
NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}
"""What the runtime of a format is called."""
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "safetensors": ""}
"""The suffix of a format's file; safetensors is a folder."""
TITLE = "fastscnn"
"""Where a file holds its description: `rt_info` of OpenVINO, the extra file `fastscnn.json` of torch."""
INPUT = "images"
"""Name of a file's input."""


class Run(Protocol):
    """An exported file that is ready to run."""

    def __call__(self, images: npt.NDArray[Any], *, fixed: bool = False) -> npt.NDArray[Any]:
        """Images, as the file takes them, to its output; `fixed`: by a program for images of this shape alone."""


def require_package(backend: str) -> Any:
    """The package that runs a backend.

    Raises:
        RequestError: It is not installed; says how it is.
    """
    package = PACKAGES[backend]
    try:
        return importlib.import_module(package)
    except ImportError:
        raise RequestError(
            f"backend={backend} needs the package {package}, which is not installed.",
            key="backend",
            fix=f"Run pip install {package}.",
        ) from None


def openvino_core() -> Any:
    """An OpenVINO core whose CPU plugin is loaded.

    Raises:
        RequestError: OpenVINO is not installed.
    """
    with signal_stack_stays():
        core = require_package("openvino").Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core


def openvino_precision(core: Any, precision: str) -> str:
    """What OpenVINO calls a precision, `float32` or `bfloat16`.

    Raises:
        RequestError: This processor does not compute in it.
    """
    if precision == "bfloat16" and not has_bfloat16(core):
        raise RequestError(
            "precision=bfloat16, but OpenVINO does not compute in it on this processor.",
            key="precision",
            fix="Set precision=float32.",
        )
    return {"float32": "f32", "bfloat16": "bf16"}[precision]


def has_bfloat16(core: Any) -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor (AMX, or AVX512-BF16)."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def load(file: Path, format: str, threads: int | None = None, precision: str = "float32") -> Run:
    """Open an exported file with the runtime that it is for, on the CPU, in float32 unless it is int8.

    Args:
        file: The file.
        format: `onnx`, `openvino` or `torch`.
        threads: Threads of a call; None for the runtime's own number.
        precision: `float32`; `bfloat16` for OpenVINO.

    Raises:
        RequestError: The runtime is not installed, or the processor does not compute in bfloat16.
    """
    if format == "openvino":
        return _openvino(file, threads, precision)
    return {"onnx": _onnx, "torch": _torch}[format](file, threads)


def _onnx(file: Path, threads: int | None) -> Run:
    runtime = require_package("onnx")

    def session(shape: tuple[int, ...] = ()) -> Any:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        for name, length in zip(dimensions, shape, strict=False):
            if isinstance(name, str):
                options.add_free_dimension_override_by_name(name, length)
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    dimensions: list[str | int] = []
    of_any_size = session()
    image = of_any_size.get_inputs()[0]
    dimensions = image.shape

    def run(images: npt.NDArray[Any], *, fixed: bool = False) -> npt.NDArray[Any]:
        program = session(images.shape) if fixed else of_any_size
        output: npt.NDArray[Any] = program.run(None, {image.name: images})[0]
        return output

    return run


def _openvino(file: Path, threads: int | None, precision: str) -> Run:
    core = openvino_core()
    hint = openvino_precision(core, precision)
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}

    def compiled(shape: tuple[int, ...] = ()) -> Any:
        model = read_openvino(core, file)
        if shape:
            model.reshape(list(shape))
        return core.compile_model(model, "CPU", settings)

    of_any_size = compiled()

    def run(images: npt.NDArray[Any], *, fixed: bool = False) -> npt.NDArray[Any]:
        program = compiled(images.shape) if fixed else of_any_size
        return np.array(program(images)[0])

    return run


def _torch(file: Path, threads: int | None) -> Run:
    import torch

    module = torch.export.load(file).module()
    if threads:
        torch.set_num_threads(threads)

    def run(images: npt.NDArray[Any], *, fixed: bool = False) -> npt.NDArray[Any]:
        with torch.inference_mode():
            output: npt.NDArray[Any] = module(torch.from_numpy(images)).numpy()
        return output

    return run


def convert_to_openvino(onnx: bytes, file: Path, described: Mapping[str, str]) -> None:
    """Write an ONNX model as OpenVINO's `.xml` and `.bin`, with a description.

    All weights stay in float32; OpenVINO's own default would round them to float16.
    """
    openvino = require_package("openvino")
    _save(openvino, openvino.Core().read_model(onnx), file, described)


def describe(file: Path, format: str, described: Mapping[str, str]) -> None:
    """Add to the description in a file, or replace parts of it.

    Args:
        file: A file for ONNX Runtime or OpenVINO.
        format: `onnx` or `openvino`.
        described: The parts.
    """
    beside = file.with_name(f"described{file.suffix}")
    if format == "onnx":
        import onnx

        model = onnx.load(file)
        before = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, before | dict(described))
        onnx.save(model, beside)
    else:
        openvino = require_package("openvino")
        _save(openvino, read_openvino(openvino.Core(), file), beside, described)
        beside.with_suffix(".bin").replace(file.with_suffix(".bin"))
    beside.replace(file)


def _save(openvino: Any, model: Any, file: Path, described: Mapping[str, str]) -> None:
    for key, text in described.items():
        model.set_rt_info(text, [TITLE, key])
    openvino.save_model(model, file, compress_to_fp16=False)


def read_openvino(core: Any, file: str | Path) -> Any:
    """Read an OpenVINO file, or an ONNX file for OpenVINO.

    Raises:
        DamagedFile: It cannot be read, or its `.bin` does not fit it.
    """
    try:
        return core.read_model(str(file))
    except RuntimeError as error:
        path = Path(file)
        weights = path.with_suffix(".bin").name
        if path.suffix != ".xml" or not path.with_suffix(".bin").is_file():
            raise _damaged(path, error) from None
        problem = f"{path.with_suffix('.bin')} is damaged or does not belong to {path.name} ({_reason(error)})."
        fix = f"Copy {path.name} and {weights} again, or export the network again."
        raise DamagedFile(problem, key="checkpoint", fix=fix) from None


def read_description(file: Path) -> dict[str, str]:
    """What an ONNX or OpenVINO file says about itself; empty if `export.py` did not write it.

    Raises:
        DamagedFile: Its runtime cannot read it.
        RequestError: ONNX Runtime, which reads ONNX files, is not installed.
    """
    try:
        return _read_onnx(file) if file.suffix == ".onnx" else _read_xml(file)
    except RequestError:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> DamagedFile:
    name = NAMES["onnx" if file.suffix == ".onnx" else "openvino"]
    problem = f"{file} is damaged or no file for {name} ({_reason(error)})."
    return DamagedFile(problem, key="checkpoint", fix="Copy it again, or export the network again.")


def _reason(error: Exception) -> str:
    """The last line of an error's message, which in OpenVINO follows the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:200] if lines else type(error).__name__


def _read_onnx(file: Path) -> dict[str, str]:
    runtime = require_package("onnx")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def _read_xml(file: Path) -> dict[str, str]:
    from xml.etree import ElementTree

    entries = ElementTree.parse(file).getroot().find(f"rt_info/{TITLE}")
    return {} if entries is None else {entry.tag: entry.get("value", "") for entry in entries}


def value(described: Mapping[str, str], key: str) -> Any:
    """A part of a description that is JSON; None if it is not there."""
    return json.loads(described[key]) if key in described else None
