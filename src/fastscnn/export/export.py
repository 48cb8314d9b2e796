"""A trained network as a file for another runtime; a file that does not agree with the network is not kept."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fastscnn.export.formats import description, write_file
from fastscnn.export.pretrained import save_pretrained
from fastscnn.export.quantize import Calibration, Quantized, check_bfloat16, quantize
from fastscnn.export.verify import Comparison, compare
from fastscnn.inference.export_graph import INPUTS, OUTPUTS, ExportGraph
from fastscnn.inference.files.external import ExternalRun
from fastscnn.inference.files.interface import Interface
from fastscnn.inference.files.runtimes import SUFFIXES
from fastscnn.inference.loader import Trained
from fastscnn.models.external import short_name
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.peers import PEERS
from fastscnn.runs.record import read_record
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.files import UNFINISHED, WriteError, check_writable
from fastscnn.utils.progress import Progress
from fastscnn.utils.values import check_choice, check_number, check_switch

PRECISIONS = ("float32", "bfloat16", "int8")
FORMATS_OF = {"float32": tuple(SUFFIXES), "bfloat16": ("openvino",), "int8": ("onnx", "openvino")}
"""The formats that a precision is for."""
ROOM = 2**16
"""Bytes that can be written if the disk is not full."""
ROOM_OF_A_FILE = 2**23
"""More bytes than an export takes: OpenVINO removes the file that it could not write before it reports a failure."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: The files, the one to load first.
        comparison: How the float32 graph differs from the network; None for safetensors, which is the network.
        quantized: What a lower precision cost; None in float32.
    """

    files: tuple[Path, ...]
    comparison: Comparison | None
    quantized: Quantized | None


def check_request(
    format: str,
    output: str | Path,
    *,
    input: str = "uint8",
    write: str = "labels",
    precision: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Check all choices of an export; returns the path to write.

    Raises:
        RequestError: A choice is unknown, two of them do not go together, or the file exists or cannot be written.
    """
    check_choice("format", format, tuple(SUFFIXES))
    check_choice("input", input, INPUTS)
    check_choice("write", write, OUTPUTS)
    check_choice("precision", precision, PRECISIONS)
    check_switch("overwrite", overwrite)
    if format not in FORMATS_OF[precision]:
        raise RequestError(
            f"precision={precision} is not for format={format}.",
            key="precision",
            fix=f"Set format={' or '.join(FORMATS_OF[precision])}, or leave it out.",
        )
    path, suffix = Path(output).expanduser(), SUFFIXES[format]
    problem, fix = "", ""
    if suffix and path.suffix != suffix:
        problem, fix = f": format={format} writes a {suffix} file.", f"Set output={path.with_suffix(suffix)}."
    elif suffix and path.is_dir():
        problem, fix = " is a folder.", "Name a file."
    elif not suffix and path.is_file():
        problem, fix = " is a file, and format=safetensors writes a folder.", "Name a folder."
    elif not overwrite and (path.exists() if suffix else path.is_dir() and any(path.iterdir())):
        problem, fix = " exists already.", "Name another output, or set overwrite=true."
    if problem:
        raise RequestError(f"output={output}{problem}", key="output", fix=fix)
    check_writable(path.parent if suffix else path, "output")
    return path


def export(
    trained: Trained,
    output: str | Path,
    *,
    format: str = "onnx",
    input: str = "uint8",
    write: str = "labels",
    overwrite: bool = False,
    precision: str | None = None,
    calibration: Calibration | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Exported:
    """Write a network for a runtime, compare the file with the network in it, and keep it if the two agree.

    One file takes any batch, height and width. Everything is written beside the output and moved there at the end.

    Args:
        trained: The network.
        output: The file; for safetensors the folder.
        format: `onnx`, `openvino` (`.xml` and `.bin`), `torch` (a `torch.export` program, which torch alone loads) or
            `safetensors` (see `save_pretrained`).
        input: As `ExportGraph` has it.
        write: What the file gives, as `ExportGraph`'s output.
        overwrite: Whether the output may exist already.
        precision: `float32`, `bfloat16` or `int8`; None is int8 with a calibration, and float32 without.
        calibration: What int8 and bfloat16 need.
        metrics: What the network reached, for the file's description.

    Raises:
        RequestError: The choices do not go together, the output cannot be written, a package is missing, the file
            disagrees with the network, or a lower precision costs more than it may.
        Crash: The runtime ended its process; names it, the size and the processor.
        WriteError: The disk is full.
    """
    precision = precision or ("int8" if calibration else "float32")
    target = check_request(format, output, input=input, write=write, precision=precision, overwrite=overwrite)
    if format != "safetensors" and trained.config["model"]["name"] in PEERS:
        raise RequestError(
            f"format={format} is not for {trained.config['model']['name']} of pytorchcv, which exporters do not get "
            "right at every size.",
            key="format",
            fix="Set format=safetensors.",
        )
    if trained.scale != 1 and input == "normalized" and write != "logits":
        raise RequestError(
            f"input=normalized with write={write}: this network sees images at {trained.scale:g} of their size, so the "
            "file cannot know the size of its output.",
            key="input",
            fix="Set input=uint8 or write=logits.",
        )
    if calibration:
        check_number("max_miou_drop", calibration.max_drop)
    with _written(target) as folder:
        if format == "safetensors":
            save_pretrained(folder, trained, metrics=metrics)
            target.mkdir(exist_ok=True)
            return Exported(_move(folder, target), None, None)
        file = folder / target.name
        graph = ExportGraph(trained, input=input, output=write).eval()
        described = description(trained, graph, precision, metrics or {})
        with Progress(f"writing {format}"), _any_failure_named(trained, format):
            write_file(graph, file, format, described)
        try:
            with Progress(f"comparing {format} with the network"), ExternalRun(file, format) as run:
                comparison = compare(run, graph, trained)
        except RequestError as error:
            raise RequestError(
                f"output={output} is not kept, because it disagrees with the network in {format}: {error}",
                key="format",
                fix="Set another format.",
            ) from None
        quantized = None
        if calibration and precision == "int8":
            quantized = quantize(file, format, Interface.of(graph, trained), calibration, described)
        elif calibration and precision == "bfloat16":
            quantized = check_bfloat16(file, Interface.of(graph, trained), calibration)
        return Exported(_move(folder, target.parent, first=target.name), comparison, quantized)


@contextmanager
def _any_failure_named(trained: Trained, format: str) -> Iterator[None]:
    """Say in one sentence that an exporter does not take a network that is not of this package.

    Raises:
        RequestError: It does not.
    """
    try:
        yield
    except (RequestError, Crash, OSError):
        raise
    except Exception as error:  # the exporters' errors have no common type
        if isinstance(trained.network, FastSCNN):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RequestError(
            f"format={format} does not take {short_name(trained.config['model'])}: {reason.rstrip('.')}.",
            key="format",
            fix="Set another format; safetensors takes every network.",
        ) from error


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    """A temporary folder beside the output; after an error, parents that were made for it are removed.

    Raises:
        Crash: The block's own, with the output's name.
        WriteError: The disk is full, whatever error a runtime made of it.
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
    """Make a folder; returns the folders that were made, the innermost first."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _check_room(folder: Path, target: Path, size: int) -> None:
    """Raise the error of a full disk, which not every runtime reports as such."""
    try:
        (folder / "room").write_bytes(bytes(size))
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(target)) from None


def _move(folder: Path, target: Path, first: str | None = None) -> tuple[Path, ...]:
    """Move the files of a folder to the target, the file that refers to the others last."""
    files = sorted(folder.iterdir(), key=lambda file: file.name == first)
    moved = [file.replace(target / file.name) for file in files]
    return tuple(reversed(moved))


def recorded_metrics(checkpoint: str | Path) -> dict[str, float]:
    """The metrics of a checkpoint in its run's record; none if it is in no run's folder."""
    folder = Path(checkpoint).parent.parent
    try:
        record = read_record(folder)
        best = (folder / record["checkpoints"]["best"]).samefile(checkpoint)
        return dict(record["metrics"]["best" if best else "last"])
    except (OSError, ValueError, KeyError, TypeError, RequestError):
        return {}


def usage(file: Path, format: str, input: str, write: str) -> str:
    """Three lines of Python that run an exported file."""
    what = "uint8 [B, 3, H, W], RGB" if input == "uint8" else "float32 [B, 3, H, W], normalised"
    call = {
        "onnx": f"""\
import onnxruntime
session = onnxruntime.InferenceSession("{file}")
{write} = session.run(None, {{"images": images}})[0]""",
        "openvino": f"""\
import openvino
network = openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
{write} = network(images)[0]""",
        "torch": f"""\
import torch
network = torch.export.load("{file}").module()
{write} = network(images)""",
        "safetensors": f"""\
from fastscnn.inference.loader import load_trained
trained = load_trained("{file.parent}")""",
    }[format]
    return call if format == "safetensors" else f"{call}  # images: {what}"
