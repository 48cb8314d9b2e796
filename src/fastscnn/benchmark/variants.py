"""Every way from a frame to its labels that a benchmark compares: a network in each runtime, with each ending."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastscnn.benchmark.timing import Contender
from fastscnn.data.datasets.frames import read_image
from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends.backends import Backend, OnnxBackend, OpenVinoBackend, TorchBackend
from fastscnn.inference.export_graph import ExportGraph, exportable
from fastscnn.inference.external import ExternalRun
from fastscnn.inference.loader import Trained
from fastscnn.inference.onnx_file import write_onnx
from fastscnn.inference.preprocess import normalized
from fastscnn.inference.segmenter import Segmenter
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.files import write_png

RUNTIMES = ("torch", "compiled", "onnx", "openvino", "openvino-bf16")
NAMES = {
    "torch": ("torch eager", "float32"),
    "compiled": ("torch compiled", "float32"),
    "onnx": ("ONNX Runtime", "float32"),
    "openvino": ("OpenVINO", "float32"),
    "openvino-bf16": ("OpenVINO", "bfloat16"),
}
"""What a table calls a runtime, and its precision."""
ANSWERS = ("logits", "cls", "prob", "files")

Run = Callable[[], Any]


@dataclass(frozen=True)
class Stage:
    """What all ways of one run have in common.

    Attributes:
        frame: RGB, uint8 [H, W, 3].
        file: The same frame as a file.
        folder: For files that are written on the way.
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
    """A network as its users run it: pixels in, labels or probabilities out, its own upsampling between.

    Args:
        network: In eval mode; `forward` gives logits of the image's size.
        answer: `cls` (labels, uint8 [B, H, W]) or `prob` (float32 [B, C, H, W]).
    """

    input = "uint8"

    def __init__(self, network: nn.Module, answer: str) -> None:
        super().__init__()
        self.network = network
        self.answer = answer

    def forward(self, images: Tensor) -> Tensor:
        """RGB, uint8 [B, 3, H, W], to the answer."""
        logits: Tensor = self.network(normalize(images))
        return logits.argmax(1).to(torch.uint8) if self.answer == "cls" else logits.softmax(1)


def ways(
    name: str,
    trained: Trained,
    stage: Stage,
    runtimes: Sequence[str],
    answers: Sequence[str],
    given_our_step: Container[str] = RUNTIMES,
) -> Iterator[Contender]:
    """Each way of one network; `step` of its key is `own` (all in its own graph), `ours` (our fused step) or `none`.

    Args:
        name: The model.
        trained: Its network.
        stage: The frame and what else is common to all.
        runtimes: Of `RUNTIMES`.
        answers: Of `ANSWERS`; with `files` goes `cls`.
        given_our_step: Runtimes whose logits are labelled by us as well.
    """
    for runtime in runtimes:
        label, precision = NAMES[runtime]
        key = _key(name, label, precision, stage)
        # Compiling takes minutes for each graph: the labels stand for the rest.
        wanted = [answer for answer in answers if runtime != "compiled" or answer in ("logits", "cls")]
        own = {answer: _own(trained.network, runtime, answer, stage) for answer in wanted if answer in ("cls", "prob")}
        for answer in wanted:
            if answer in own:
                yield Contender({**key, "step": "own", "answer": answer}, partial(own[answer], _planar(stage.frame)))
            elif answer == "files":
                through = partial(_through_files, own["cls"], stage)
                yield Contender({**key, "step": "own", "answer": answer}, through)
        if runtime in given_our_step:
            yield from with_our_step(name, trained, runtime, stage, wanted)


def with_our_step(
    name: str, trained: Trained, runtime: str, stage: Stage, answers: Sequence[str]
) -> Iterator[Contender]:
    """A network to its coarse logits in one runtime, and the rest by us."""
    key = _key(name, *NAMES[runtime], stage)
    yield from _with_our_step(key, _to_logits(trained, runtime, stage), stage, answers)


def torch_alone(name: str, trained: Trained, stage: Stage, answers: Sequence[str]) -> Iterator[Contender]:
    """Our own way with no other runtime installed: fused convolutions and the fused step."""
    key = _key(name, "torch, ours", "float32", stage)
    yield from _with_our_step(key, TorchBackend(trained.network), stage, answers)


def from_file(
    name: str, file: Path, trained: Trained, stage: Stage, answers: Sequence[str], precision: str
) -> Iterator[Contender]:
    """A file of ours that ends with the coarse logits, such as an int8 one, in OpenVINO with our step."""
    key = _key(name, "OpenVINO", precision, stage)
    yield from _with_our_step(key, OpenVinoBackend(file, threads=stage.threads), stage, answers)


def foreign(file: Path, stage: Stage, answers: Sequence[str]) -> Iterator[Contender]:
    """Any ONNX file as one more model: normalised images in; its output is scaled to the frame and labelled by us.

    Raises:
        RequestError: As `check_logits`.
    """
    check_logits(f"onnx={file}", file, "onnx", stage.size)
    backend = OnnxBackend(file, stage.threads)
    yield from _with_our_step(_key(file.stem, "ONNX Runtime", "float32", stage), backend, stage, answers)


def check_logits(setting: str, file: Path, runtime: str, size: tuple[int, int]) -> None:
    """Check, in a child process, that a file takes normalised images of a size and ends with logits.

    Args:
        setting: What named it, for the error's sentence.
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
            f"{setting} does not run on images of {size[0]}x{size[1]}: {reason} Name a file that takes float32 "
            "[1, 3, H, W] of that size (export.py: input=normalized ends_with=logits), or set sizes=."
        ) from None
    if len(shape) != 4 or shape[0] != 1:
        raise RequestError(
            f"{setting} gives {list(shape)}, not logits [1, C, h, w]: export it without its argmax (export.py: "
            "input=normalized ends_with=logits)."
        )


def _with_our_step(key: dict[str, Any], backend: Backend, stage: Stage, answers: Sequence[str]) -> Iterator[Contender]:
    nameless: Any = None  # what the classes are called is not asked for here
    segmenter = Segmenter(backend, nameless, threads=stage.threads)
    images = normalized(stage.frame[None], torch.empty(1, 3, *stage.size, memory_format=backend.memory_format))
    runs: dict[str, Run] = {
        "logits": partial(_inferred, backend, images),
        "cls": partial(segmenter, stage.frame),
        "files": partial(_through_files, lambda planar: segmenter(_interleaved(planar)), stage),
    }
    if "prob" in answers:
        runs["prob"] = partial(segmenter.probabilities, stage.frame, segmenter.probabilities(stage.frame))
    for answer in answers:
        yield Contender({**key, "step": "none" if answer == "logits" else "ours", "answer": answer}, runs[answer])


def _inferred(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.inference_mode():
        return run(images)


def _own(network: nn.Module, runtime: str, answer: str, stage: Stage) -> Callable[[Tensor], Any]:
    """From planar pixels to the answer with everything in the runtime's own graph."""
    if runtime in ("torch", "compiled"):
        whole: Any = WholeNetwork(network, answer).eval()
        if runtime == "compiled":
            whole = torch.compile(whole, dynamic=False)
        return lambda images: _inferred(whole, images)
    file = _exported(WholeNetwork(exportable(network), answer), f"{id(network)}-{answer}", stage)
    if runtime == "onnx":
        return OnnxBackend(file, stage.threads)
    precision = NAMES[runtime][1]
    return OpenVinoBackend(file, precision, stage.threads)


def _to_logits(trained: Trained, runtime: str, stage: Stage) -> Backend:
    """The network to its coarse logits in a runtime."""
    if runtime == "torch":
        return PlainTorch(trained.network)
    if runtime == "compiled":
        return TorchBackend(trained.network, compile=True)
    graph = ExportGraph(trained, input="normalized", output="logits")
    file = _exported(graph, f"{id(trained.network)}-logits", stage)
    if runtime == "onnx":
        return OnnxBackend(file, stage.threads)
    return OpenVinoBackend(file, NAMES[runtime][1], stage.threads)


class PlainTorch:
    """A network in eager torch as it is; see `Backend`."""

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
