"""Table 6 on this machine: models, runtimes, sizes and endings, timed in interleaved rounds."""

import gc
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from fastscnn.data.classes import CITYSCAPES
from fastscnn.data.frames import read_image
from fastscnn.data.streets_draw.scene import draw_street
from fastscnn.errors import RequestError
from fastscnn.inference.backends import torch_threads
from fastscnn.inference.timing import Contender, interleave
from fastscnn.inference.trained import Trained, load_trained
from fastscnn.inference.ways import RUNTIMES, Stage, foreign, from_file, torch_alone, ways, with_our_step
from fastscnn.memory import keep_freed_memory
from fastscnn.network.build import build_network
from fastscnn.network.cost import count_parameters
from fastscnn.network.peers import PEERS

OURS = "fast_scnn"
GIVEN_OUR_STEP = ("onnx", "openvino")
"""Runtimes in which a peer is given our step as well."""
PEERS_ANSWERS = ("cls",)
"""The endings of a peer; the paper gives `prob` for Fast-SCNN alone."""


def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Time every way that the settings ask for.

    Each peer's ways are timed in turn with ours, size after size, so that what is compared was measured side by side.

    Args:
        settings: The plain config of `conf/benchmark.yaml`.

    Returns:
        `rows`, one a way, and `models`: parameters, name and note of each.

    Raises:
        RequestError: A setting is wrong; tells which.
    """
    _check(settings)
    console = Console(stderr=True)
    if settings["keep_memory"]:
        keep_freed_memory()
    models = {OURS: _ours(settings["checkpoint"])}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for height, width in settings["sizes"]:
            frame = _frame(settings["image"], (height, width))
            file = Path(folder, f"frame-{height}x{width}.png")
            cv2.imwrite(str(file), frame[:, :, ::-1])
            for threads in settings["threads"]:
                count = torch.get_num_threads() if threads == "all" else threads
                stage = Stage(frame, file, Path(folder), count)
                for name in settings["models"]:
                    trained = models.get(name) or _peer(name)
                    beside = models[OURS] if name != OURS and OURS in settings["models"] else None
                    with torch_threads(count):
                        rows += _measured(name, trained, beside, stage, settings, console)
                    gc.collect()
                if settings["onnx"]:
                    with torch_threads(count):
                        rows += _timed(
                            list(foreign(Path(settings["onnx"]), stage, ["logits", "cls"])), settings, console
                        )
    described = {name: _described(name, models.get(name) or _peer(name)) for name in settings["models"]}
    if settings["onnx"]:
        name = Path(settings["onnx"]).stem
        note = "An ONNX file; its output is scaled to the frame and labelled by our step."
        described[name] = {"name": name, "parameters": _stored_values(Path(settings["onnx"])), "note": note}
    return {"rows": rows, "models": described}


def _measured(
    name: str, trained: Trained, ours: Trained | None, stage: Stage, settings: Mapping[str, Any], console: Console
) -> list[dict[str, Any]]:
    """The rows of one model at one size and number of threads, and of ours in turn with a peer's (`beside` it)."""
    answers = ["logits", *settings["answers"]] if name == OURS else ["logits", *PEERS_ANSWERS]
    runtimes = [
        runtime for runtime in settings["runtimes"] if runtime != "compiled" or name in settings["compiled_models"]
    ]
    own_upsampling = name == OURS or PEERS[name].stride > 1
    if not own_upsampling:
        answers.remove("logits")  # they are of full size: labels are one step more
    step = RUNTIMES if name == OURS else GIVEN_OUR_STEP if own_upsampling else ("onnx",)
    contenders = list(ways(name, trained, stage, runtimes, answers, step))
    if ours is not None:
        runtime = "onnx" if "onnx" in settings["runtimes"] else "torch"
        for contender in with_our_step(OURS, ours, runtime, stage, ["cls"]):
            contenders.append(Contender({**contender.key, "beside": name}, contender.run))
    if name == OURS:
        contenders += torch_alone(name, trained, stage, answers)
        if settings["int8"]:
            contenders += from_file(name, Path(settings["int8"]), trained, stage, answers, "int8")
    return _timed(contenders, settings, console)


def _timed(contenders: Sequence[Contender], settings: Mapping[str, Any], console: Console) -> list[dict[str, Any]]:
    interleave(
        contenders,
        frames=settings["frames"],
        burn_in=settings["burn_in"],
        rounds=settings["rounds"],
        seconds=settings["seconds"],
    )
    rows = [contender.summary() for contender in contenders]
    for row in rows:
        console.print(
            f"{row['model']:12} {row['height']}x{row['width']} {row['threads']} thread(s)  {row['runtime']:14} "
            f"{row['precision']:8} {row['answer']:6} {row['step']:4} {row['ms']:9.1f} ms  {row['fps']:7.2f} fps",
            highlight=False,
            soft_wrap=True,
        )
    return rows


def labels_that_differ(checkpoint: str | Path | None, size: tuple[int, int], image: str | None) -> dict[str, int]:
    """Pixels whose label differs from eager torch's, for each way to labels with our step, on one thread."""
    trained = _ours(checkpoint)
    frame = _frame(image, size)
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        stage = Stage(frame, Path(folder, "none"), Path(folder), 1)
        found = _to_labels(trained, stage)
        reference = next(found)[1]
        return {name: int((labels != reference).sum()) for name, labels in found}


def _to_labels(trained: Trained, stage: Stage) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    for contender in ways(OURS, trained, stage, ["torch", "onnx", "openvino"], ["cls"]):
        yield f"{contender.key['runtime']}, {contender.key['step']}", np.asarray(contender.run()).reshape(stage.size)
    for contender in torch_alone(OURS, trained, stage, ["cls"]):
        yield f"{contender.key['runtime']}", np.asarray(contender.run())


def _check(settings: Mapping[str, Any]) -> None:
    known = (OURS, *PEERS)
    for key, values, options in (
        ("models", settings["models"], known),
        ("runtimes", settings["runtimes"], RUNTIMES),
        ("answers", settings["answers"], ("cls", "prob", "files")),
    ):
        for value in values:
            if value not in options:
                raise RequestError(f"{key}={value} is unknown: it is one of {', '.join(options)}.")
    if "cls" not in settings["answers"]:
        raise RequestError(f"answers={settings['answers']} has no cls, which all else is compared with: add it.")
    for key in ("onnx", "image", "int8"):
        if settings[key] and not Path(settings[key]).is_file():
            raise RequestError(f"{key}={settings[key]}: there is no such file. Name one, or leave {key} out.")


def _ours(checkpoint: str | Path | None) -> Trained:
    if checkpoint is None:
        torch.manual_seed(0)
        network = build_network({"name": OURS}, CITYSCAPES.num_classes).eval().requires_grad_(False)
        return Trained(network, CITYSCAPES, {})
    return load_trained(checkpoint)


def _peer(name: str) -> Trained:
    torch.manual_seed(0)
    network = build_network({"name": name}, CITYSCAPES.num_classes).eval().requires_grad_(False)
    return Trained(network, CITYSCAPES, {})


def _described(name: str, trained: Trained) -> dict[str, Any]:
    parameters = count_parameters(trained.network)[0]
    if name == OURS:
        note = "Ours. The paper's count leaves BatchNorm out: 1,114,115 here."
        return {"name": "Fast-SCNN", "parameters": parameters, "paper_parameters": 1.11, "note": note}
    info = PEERS[name]
    return {
        "name": info.paper_name if name != "pytorchcv_fastscnn" else "Fast-SCNN of pytorchcv",
        "parameters": parameters,
        "paper_parameters": info.parameters,
        "note": info.note,
    }


def _stored_values(file: Path) -> int | None:
    """Floating-point values in an ONNX file, its parameters; None where onnx is not installed."""
    try:
        import onnx
    except ImportError:
        return None
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    stored = onnx.load(file).graph.initializer
    return sum(int(math.prod(tensor.dims)) for tensor in stored if tensor.data_type in floats)


def _frame(image: str | None, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The image at that size, or a drawn street; RGB, uint8 [H, W, 3]."""
    height, width = size
    if image is None:
        return np.ascontiguousarray(draw_street([0, 0, 0], (height, width)).image)
    return np.ascontiguousarray(cv2.resize(read_image(Path(image)), (width, height)), dtype=np.uint8)
