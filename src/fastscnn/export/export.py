"""A trained network as a file for another runtime, and nothing but a file that says what the network says."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fastscnn.export.formats import description, write
from fastscnn.export.pretrained import save_pretrained
from fastscnn.export.quantize import Calibration, Quantized, quantize
from fastscnn.inference.export_graph import INPUTS, OUTPUTS, ExportGraph
from fastscnn.inference.external import ExternalRun
from fastscnn.inference.loader import Trained
from fastscnn.inference.runtimes import SUFFIXES
from fastscnn.inference.verify import Comparison, Interface, compare
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.runs.record import read_record
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.files import UNFINISHED, WriteError, check_writable
from fastscnn.utils.progress import Progress

PRECISIONS = ("float32", "int8")
ROOM = 2**16
"""Bytes that can be written where a disk is not full."""
ROOM_OF_A_FILE = 2**23
"""More than an export takes: OpenVINO removes the file that it could not write before it says that something failed."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: The files, the one to load first.
        comparison: How the float32 graph differs from the network; None for safetensors, which is the network.
        quantized: What quantization did; None in float32.
    """

    files: tuple[Path, ...]
    comparison: Comparison | None
    quantized: Quantized | None


def check_request(
    format: str,
    output: str | Path,
    *,
    input: str = "uint8",
    ends_with: str = "labels",
    precision: str = "float32",
    overwrite: bool = False,
) -> Path:
    """The path to write, once all the choices are known to go together.

    Raises:
        RequestError: One is unknown, two of them do not go together, or the file is there already or cannot be written.
    """
    for name, value, options in (
        ("format", format, tuple(SUFFIXES)),
        ("input", input, INPUTS),
        ("ends_with", ends_with, OUTPUTS),
        ("precision", precision, PRECISIONS),
        ("overwrite", overwrite, (True, False)),
    ):
        if value not in options:
            raise RequestError(f"{name}={value} is unknown: it is one of {', '.join(map(str, options))}.")
    if precision == "int8" and format not in ("onnx", "openvino"):
        raise RequestError(f"precision=int8 is not for format={format}: take onnx or openvino, or leave it out.")
    path, suffix = Path(output).expanduser(), SUFFIXES[format]
    if suffix and path.suffix != suffix:
        raise RequestError(
            f"output={output}: format={format} writes a {suffix} file. Set output={path.with_suffix(suffix)}."
        )
    if suffix and path.is_dir():
        raise RequestError(f"output={output} is a folder: name a file.")
    if not suffix and path.is_file():
        raise RequestError(f"output={output} is a file, and format=safetensors writes a folder: name a folder.")
    there = path.exists() if suffix else path.is_dir() and any(path.iterdir())
    if there and not overwrite:
        raise RequestError(f"output={output} is there already: name another, or set overwrite=true.")
    check_writable(path.parent if suffix else path, "output")
    return path


def export(
    trained: Trained,
    output: str | Path,
    *,
    format: str = "onnx",
    input: str = "uint8",
    ends_with: str = "labels",
    overwrite: bool = False,
    calibration: Calibration | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Exported:
    """Write a network for a runtime, try the file in it, and leave it only where it agrees with the network.

    Any batch, height and width in one file. Everything is written beside the output and moved there at the end.

    Args:
        trained: The network.
        output: The file; for safetensors the folder.
        format: `onnx`, `openvino` (`.xml` and `.bin`), `torch` (a `torch.export` program, which torch alone loads) or
            `safetensors` (see `save_pretrained`).
        input: As `ExportGraph` has it.
        ends_with: What the file gives, `ExportGraph`'s output.
        overwrite: Whether the output may be there already.
        calibration: Makes the file int8; None keeps float32.
        metrics: What the network reached, for the file's description.

    Raises:
        RequestError: The choices do not go together, the output cannot be written, a package is missing, the file
            disagrees with the network, or int8 costs more than it may.
        Crash: The runtime ended its process; names it, the size and the processor.
        WriteError: The disk is full.
    """
    precision = "int8" if calibration else "float32"
    target = check_request(format, output, input=input, ends_with=ends_with, precision=precision, overwrite=overwrite)
    if format != "safetensors" and not isinstance(trained.network, FastSCNN):
        raise RequestError(
            f"format={format} is for fast_scnn, and this is {trained.config['model']['name']}, whose layers exporters "
            "do not take at every size: use format=safetensors."
        )
    if trained.scale != 1 and input == "normalized" and ends_with != "logits":
        raise RequestError(
            f"input=normalized with ends_with={ends_with}: this network sees images at {trained.scale:g} of their "
            "size, so that the file would never know the size to answer in: take input=uint8 or ends_with=logits."
        )
    if calibration and not calibration.max_drop >= 0:
        raise RequestError(f"max_miou_drop={calibration.max_drop} is no number of 0 or more: set one.")
    with _written(target) as folder:
        if format == "safetensors":
            save_pretrained(folder, trained, metrics=metrics)
            target.mkdir(exist_ok=True)
            return Exported(_move(folder, target), None, None)
        file = folder / target.name
        graph = ExportGraph(trained, input=input, output=ends_with).eval()
        described = description(trained, graph, precision, metrics or {})
        with Progress(f"writing {format}"):
            write(graph, file, format, described)
        try:
            with Progress(f"comparing {format} with the network"), ExternalRun(file, format) as run:
                comparison = compare(run, graph, trained)
        except RequestError as error:
            raise RequestError(
                f"output={output} is not left, as it disagrees with the network in {format}: {error}"
            ) from None
        quantized = None
        if calibration:
            quantized = quantize(file, format, Interface.of(graph, trained), calibration, described)
        return Exported(_move(folder, target.parent, first=target.name), comparison, quantized)


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    """A folder beside the output, for what is written on the way; afterwards it is gone, and so are empty parents.

    Raises:
        Crash: That of the block, with the output's name.
        WriteError: The disk is full: the cause of whatever a runtime made of that.
    """
    made = _make(target.parent)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as folder:
            try:
                yield Path(folder)
            except Crash as crash:
                _check_room(Path(folder), target, ROOM)
                raise Crash(f"output={target} is not written: {crash}", crash.how) from None
            except OSError as error:
                if error.errno is not None and str(error.filename).startswith(folder):
                    raise WriteError(error.errno, error.strerror, str(target)) from None
                raise
            except Exception as error:
                _check_room(Path(folder), target, ROOM if isinstance(error, RequestError) else ROOM_OF_A_FILE)
                raise
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def _make(folder: Path) -> list[Path]:
    """Make a folder; those that were not there, the innermost first."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _check_room(folder: Path, target: Path, size: int) -> None:
    """Tell a full disk from all else that runtimes may fail by, as not all of them say so."""
    try:
        (folder / "room").write_bytes(bytes(size))
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(target)) from None


def _move(folder: Path, target: Path, first: str | None = None) -> tuple[Path, ...]:
    """Put what lies in a folder where it belongs, the file that names the others last."""
    files = sorted(folder.iterdir(), key=lambda file: file.name == first)
    moved = [file.replace(target / file.name) for file in files]
    return tuple(reversed(moved))


def recorded_metrics(checkpoint: str | Path) -> dict[str, float]:
    """The best metrics of the run that a checkpoint lies in; none where it lies elsewhere or is another one's."""
    folder = Path(checkpoint).parent.parent
    try:
        record = read_record(folder)
        best = (folder / record["checkpoints"]["best"]).samefile(checkpoint)
        return dict(record["metrics"]["best" if best else "last"])
    except (OSError, ValueError, KeyError, TypeError, RequestError):
        return {}


def usage(file: Path, format: str, input: str, ends_with: str) -> str:
    """Three lines of Python that run an exported file."""
    what = "uint8 [B, 3, H, W], RGB" if input == "uint8" else "float32 [B, 3, H, W], normalised"
    call = {
        "onnx": f"""\
import onnxruntime
session = onnxruntime.InferenceSession("{file}")
{ends_with} = session.run(None, {{"images": images}})[0]""",
        "openvino": f"""\
import openvino
network = openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
{ends_with} = network(images)[0]""",
        "torch": f"""\
import torch
network = torch.export.load("{file}").module()
{ends_with} = network(images)""",
        "safetensors": f"""\
from fastscnn.inference.loader import load_trained
trained = load_trained("{file.parent}")""",
    }[format]
    return call if format == "safetensors" else f"{call}  # images: {what}"
