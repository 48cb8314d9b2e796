"""The variants that a benchmark compares: a network in each backend, up to each output."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastscnn.benchmark.timing import Variant
from fastscnn.data.datasets.frames import read_image
from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends.backends import Backend, OnnxBackend, OpenVinoBackend, TorchBackend
from fastscnn.inference.backends.from_pixels import FromPixels
from fastscnn.inference.export_graph import ExportGraph, exportable
from fastscnn.inference.files.external import ExternalRun
from fastscnn.inference.loader import Trained
from fastscnn.inference.onnx_file import write_onnx
from fastscnn.inference.preprocess import normalized
from fastscnn.inference.segmenter import Segmenter
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.files import write_png

NAMES = {
    "torch": ("torch eager", "float32"),
    "compile": ("torch compiled", "float32"),
    "triton": ("Triton", "float16"),
    "onnx": ("ONNX Runtime", "float32"),
    "openvino": ("OpenVINO", "float32"),
    "openvino-bfloat16": ("OpenVINO", "bfloat16"),
}
"""A backend that can be asked for, to its name in a table and its precision."""
OUTPUTS = ("logits", "labels", "probabilities", "files")
"""What a variant computes; `files`: from an image file to a label file."""

Run = Callable[[], Any]


@dataclass(frozen=True)
class Stage:
    """What all variants of one comparison share.

    Attributes:
        frame: RGB, uint8 [H, W, 3].
        file: The same frame as a file.
        folder: For files that are written in between.
        threads: Threads of a call.
    """

    frame: npt.NDArray[np.uint8]
    file: Path
    folder: Path
    threads: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.frame.shape[:2]
        return height, width


class WholeNetwork(nn.Module):
    """A network as its users run it: pixels in, labels or probabilities out, with its own upsampling.

    Args:
        network: In eval mode; `forward` gives logits of the image's size.
        output: `labels` (uint8 [B, H, W]) or `probabilities` (float32 [B, C, H, W]).
    """

    input = "uint8"

    def __init__(self, network: nn.Module, output: str) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """RGB, uint8 [B, 3, H, W], to the output."""
        logits: Tensor = self.network(normalize(images))
        return logits.argmax(1).to(torch.uint8) if self.output == "labels" else logits.softmax(1)


def variants(
    name: str,
    trained: Trained,
    stage: Stage,
    backends: Sequence[str],
    outputs: Sequence[str],
    with_head: Container[str] = NAMES,
) -> Iterator[Variant]:
    """Each variant of one network.

    `head` of a variant's key is `own` (all in the network's own graph), `fused` (our fused head) or `none`.

    Args:
        name: The model.
        trained: Its network.
        stage: The frame and what else all variants share.
        backends: Keys of `NAMES`.
        outputs: Of `OUTPUTS`; with `files` goes `labels`.
        with_head: Backends whose logits the fused head takes as well.
    """
    for backend in backends:
        if backend == "triton":
            yield from _on_gpu(_key(name, *NAMES[backend], stage), trained, stage, outputs)
            continue
        key = _key(name, *NAMES[backend], stage)
        # Compiling takes minutes for each graph: the labels stand for the other outputs.
        wanted = [output for output in outputs if backend != "compile" or output in ("logits", "labels")]
        alone = [output for output in wanted if output in ("labels", "probabilities")]
        own = {output: _own(trained.network, backend, output, stage) for output in alone}
        for output in wanted:
            if output in own:
                yield Variant({**key, "head": "own", "output": output}, partial(own[output], _planar(stage.frame)))
            elif output == "files":
                through = partial(_through_files, own["labels"], stage)
                yield Variant({**key, "head": "own", "output": output}, through)
        if backend in with_head:
            yield from with_fused_head(name, trained, backend, stage, wanted)


def with_fused_head(
    name: str, trained: Trained, backend: str, stage: Stage, outputs: Sequence[str]
) -> Iterator[Variant]:
    """A network up to its coarse logits in one backend, and the fused head after it."""
    key = _key(name, *NAMES[backend], stage)
    yield from _with_fused_head(key, _to_logits(trained, backend, stage), stage, outputs)


def torch_alone(name: str, trained: Trained, stage: Stage, outputs: Sequence[str]) -> Iterator[Variant]:
    """The variant that needs no other runtime: fused convolutions in torch, and the fused head."""
    key = _key(name, "torch, ours", "float32", stage)
    yield from _with_fused_head(key, TorchBackend(trained.network), stage, outputs)


def from_file(
    name: str, file: Path, trained: Trained, stage: Stage, outputs: Sequence[str], precision: str
) -> Iterator[Variant]:
    """A file of ours that ends with the coarse logits, such as an int8 one, in OpenVINO with the fused head."""
    key = _key(name, "OpenVINO", precision, stage)
    yield from _with_fused_head(key, OpenVinoBackend(file, threads=stage.threads), stage, outputs)


def external(file: Path, stage: Stage, outputs: Sequence[str]) -> Iterator[Variant]:
    """Any ONNX file as one more model: normalised images in; the fused head takes its output.

    Raises:
        RequestError: As `check_logits`.
    """
    check_logits("onnx", file, "onnx", stage.size)
    backend = OnnxBackend(file, stage.threads)
    yield from _with_fused_head(_key(file.stem, "ONNX Runtime", "float32", stage), backend, stage, outputs)


def check_logits(setting: str, file: Path, runtime: str, size: tuple[int, int]) -> None:
    """Check, in a child process, that a file takes normalised images of a size and ends with logits.

    Args:
        setting: The setting that names it.
        file: The file.
        runtime: `onnx` or `openvino`.
        size: Height and width.

    Raises:
        RequestError: It does not take float32 [1, 3, H, W], or does not give [1, C, h, w].
        Crash: Its runtime crashes on it.
    """
    try:
        with ExternalRun(file, runtime) as run:
            shape = run(np.zeros((1, 3, *size), np.float32)).shape
    except (Crash, RequestError):
        raise
    except Exception as error:  # the runtimes' errors have no common type
        reason = str(error).strip().splitlines()[0]
        raise RequestError(
            f"{setting}={file} does not run on images of {size[0]}x{size[1]}: {reason}",
            key=setting,
            fix="Name a file that takes float32 [1, 3, H, W] of that size (export.py: input=normalized write=logits), "
            "or set sizes=.",
        ) from None
    if len(shape) != 4 or shape[0] != 1:
        raise RequestError(
            f"{setting}={file} gives {list(shape)}, not logits [1, C, h, w].",
            key=setting,
            fix="Export it without its argmax (export.py: input=normalized write=logits).",
        )


def _with_fused_head(key: dict[str, Any], backend: Backend, stage: Stage, outputs: Sequence[str]) -> Iterator[Variant]:
    nameless: Any = None  # the classes' names are not used here
    segmenter = Segmenter(FromPixels(backend), nameless, threads=stage.threads)
    images = normalized(stage.frame[None], torch.empty(1, 3, *stage.size, memory_format=backend.memory_format))
    runs: dict[str, Run] = {"logits": partial(_inferred, backend, images), **_runs(segmenter, stage, outputs)}
    for output in outputs:
        yield Variant({**key, "head": "none" if output == "logits" else "fused", "output": output}, runs[output])


def _on_gpu(key: dict[str, Any], trained: Trained, stage: Stage, outputs: Sequence[str]) -> Iterator[Variant]:
    """From a frame in the CPU's memory to an output there, by the Triton programs."""
    segmenter = Segmenter.from_trained(trained, backend="triton", longest_side=None)
    for output, run in _runs(segmenter, stage, outputs).items():
        yield Variant({**key, "head": "fused", "output": output}, run)


def _runs(segmenter: Segmenter, stage: Stage, outputs: Sequence[str]) -> dict[str, Run]:
    """What computes each output but the logits."""
    runs: dict[str, Run] = {
        "labels": partial(segmenter, stage.frame),
        "files": partial(_through_files, lambda planar: segmenter(_interleaved(planar)), stage),
    }
    if "probabilities" in outputs:
        runs["probabilities"] = partial(segmenter.probabilities, stage.frame, segmenter.probabilities(stage.frame))
    return {output: runs[output] for output in outputs if output in runs}


def _inferred(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.inference_mode():
        return run(images)


def _own(network: nn.Module, backend: str, output: str, stage: Stage) -> Callable[[Tensor], Any]:
    """From planar pixels to the output with everything in the backend's own graph."""
    if backend in ("torch", "compile"):
        whole: Any = WholeNetwork(network, output).eval()
        if backend == "compile":
            whole = torch.compile(whole, dynamic=False)
        return lambda images: _inferred(whole, images)
    file = _exported(WholeNetwork(exportable(network), output), f"{id(network)}-{output}", stage)
    if backend == "onnx":
        return OnnxBackend(file, stage.threads)
    return OpenVinoBackend(file, NAMES[backend][1], stage.threads)


def _to_logits(trained: Trained, backend: str, stage: Stage) -> Backend:
    """The network up to its coarse logits in a backend."""
    if backend == "torch":
        return PlainTorch(trained.network)
    if backend == "compile":
        return TorchBackend(trained.network, compile=True)
    graph = ExportGraph(trained, input="normalized", output="logits")
    file = _exported(graph, f"{id(trained.network)}-logits", stage)
    if backend == "onnx":
        return OnnxBackend(file, stage.threads)
    return OpenVinoBackend(file, NAMES[backend][1], stage.threads)


class PlainTorch:
    """A network in eager torch without any change; see `Backend`."""

    memory_format = torch.contiguous_format

    def __init__(self, network: nn.Module) -> None:
        self._network: Any = network

    def __call__(self, images: Tensor) -> Tensor:
        """See `Backend`."""
        logits: Tensor = self._network.coarse_logits(images)
        return logits


def _exported(graph: nn.Module, name: str, stage: Stage) -> Path:
    """The graph's ONNX file for frames of this size, written once."""
    file = stage.folder / f"{name}-{stage.size[0]}x{stage.size[1]}.onnx"
    if not file.exists():
        write_onnx(graph, file, size=stage.size)
    return file


def _through_files(run: Callable[[Tensor], Any], stage: Stage) -> None:
    """Read the frame's file, label it, write the labels as a PNG."""
    labels = np.asarray(run(_planar(read_image(stage.file))))
    target = stage.folder / "labels.png"
    write_png(target, labels.reshape(stage.size))
    target.unlink()


def _planar(frame: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [H, W, 3] to [1, 3, H, W], as the networks take it."""
    return torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))[None])


def _interleaved(planar: Tensor) -> npt.NDArray[np.uint8]:
    return planar[0].permute(1, 2, 0).numpy()


def _key(name: str, runtime: str, precision: str, stage: Stage) -> dict[str, Any]:
    height, width = stage.size
    return {
        "model": name,
        "runtime": runtime,
        "precision": precision,
        "height": height,
        "width": width,
        "threads": stage.threads,
    }
