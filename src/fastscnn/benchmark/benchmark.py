"""Table 6 on this machine: models, runtimes, sizes and endings, timed in interleaved rounds."""

import gc
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from fastscnn.benchmark.timing import Contender, interleave
from fastscnn.benchmark.variants import (
    NAMES,
    RUNTIMES,
    Stage,
    check_logits,
    foreign,
    from_file,
    torch_alone,
    ways,
    with_our_step,
)
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frames import read_image
from fastscnn.inference.backends.backends import torch_threads
from fastscnn.inference.loader import Trained, load_trained
from fastscnn.inference.runtimes import read_description
from fastscnn.inference.smallest import known_smallest_side
from fastscnn.models.build import build_network
from fastscnn.models.flops import count_parameters
from fastscnn.models.peers import PEERS
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_file, write_png
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.values import check_number, check_switch, check_whole

OURS = "fast_scnn"
GIVEN_OUR_STEP = ("onnx", "openvino")
"""Runtimes in which a peer is given our step as well."""
PEERS_ANSWERS = ["cls"]
"""The endings of a peer; the paper gives `prob` for Fast-SCNN alone."""


def measure(
    settings: Mapping[str, Any], keep: Callable[[dict[str, Any]], None] = lambda result: None
) -> dict[str, Any]:
    """Time every way that the settings ask for.

    Each peer's ways are timed in turn with ours, size after size, so that what is compared was measured side by side.

    Args:
        settings: The plain config of `conf/benchmark.yaml`.
        keep: Is given all that is measured so far, again and again: a run of hours may be stopped.

    Returns:
        `rows`, one a way, and `models`: parameters, name and note of each.

    Raises:
        RequestError: A setting is wrong; tells which.
    """
    _check(settings)
    console = Console(stderr=True)
    if settings["keep_memory"]:
        keep_freed_memory()
    ours = _ours(settings["checkpoint"])
    described = {name: _described(name, ours if name == OURS else _peer(name)) for name in settings["models"]}
    if settings["onnx"]:
        file = Path(settings["onnx"])
        note = "An ONNX file; its output is scaled to the frame and labelled by our step."
        described[file.stem] = {"name": file.stem, "parameters": _stored_values(file), "note": note}
    result: dict[str, Any] = {"rows": [], "models": described}
    with tempfile.TemporaryDirectory() as folder:
        for height, width in settings["sizes"]:
            frame = _frame(settings["image"], (height, width))
            file = Path(folder, f"frame-{height}x{width}.png")
            write_png(file, frame)
            for threads in settings["threads"]:
                count = torch.get_num_threads() if threads == "all" else threads
                stage = Stage(frame, file, Path(folder), count)
                with torch_threads(count):
                    for group in _groups(ours, stage, settings):
                        result["rows"] += _timed(group, stage, settings, console)
                        keep(result)
                        group.clear()
                        gc.collect()
    return result


def _groups(ours: Trained, stage: Stage, settings: Mapping[str, Any]) -> Iterator[list[Contender]]:
    """What is timed in turn: all ways of ours; and one runtime of a peer, whose memory allows no more, beside ours."""
    for name in settings["models"]:
        if name == OURS:
            yield list(_our_ways(ours, stage, settings))
            continue
        peer = _peer(name)
        upsamples = PEERS[name].stride > 1
        for runtime in settings["runtimes"]:
            if runtime == "compiled" and name not in settings["compiled_models"]:
                continue
            # Logits of full size are labels but for one step: there is no network alone to tell apart.
            answers = ["logits", *PEERS_ANSWERS] if upsamples else PEERS_ANSWERS
            given = GIVEN_OUR_STEP if upsamples else ("onnx",)
            group = list(ways(name, peer, stage, [runtime], answers, given))
            if OURS in settings["models"]:
                beside = "onnx" if "onnx" in settings["runtimes"] else "torch"
                for contender in with_our_step(OURS, ours, beside, stage, ["cls"]):
                    marked = {**contender.key, "beside": f"{name}, {NAMES[runtime][0]}"}
                    group.append(Contender(marked, contender.run))
            yield group
    if settings["onnx"]:
        yield list(foreign(Path(settings["onnx"]), stage, ["logits", "cls"]))


def _our_ways(ours: Trained, stage: Stage, settings: Mapping[str, Any]) -> Iterator[Contender]:
    answers = ["logits", *settings["answers"]]
    runtimes = [
        runtime for runtime in settings["runtimes"] if runtime != "compiled" or OURS in settings["compiled_models"]
    ]
    yield from ways(OURS, ours, stage, runtimes, answers)
    yield from torch_alone(OURS, ours, stage, answers)
    if settings["int8"]:
        yield from from_file(OURS, Path(settings["int8"]), ours, stage, answers, "int8")


def _timed(
    contenders: Sequence[Contender], stage: Stage, settings: Mapping[str, Any], console: Console
) -> list[dict[str, Any]]:
    """Time a group; the rows of ours tell how many labels differ from the first's, eager torch in its own graph."""
    interleave(
        contenders,
        frames=settings["frames"],
        burn_in=settings["burn_in"],
        rounds=settings["rounds"],
        seconds=settings["seconds"],
    )
    rows = [contender.summary() for contender in contenders]
    if len({row["model"] for row in rows}) == 1 and rows[0]["model"] == OURS:
        labels = {
            place: np.asarray(contender.run()).reshape(stage.size)
            for place, contender in enumerate(contenders)
            if contender.key["answer"] == "cls"
        }
        reference = labels[min(labels)]
        for place, found in labels.items():
            rows[place]["labels_that_differ"] = int((found != reference).sum())
    for row in rows:
        console.print(
            f"{row['model']:12} {row['height']}x{row['width']} {row['threads']} thread(s)  {row['runtime']:14} "
            f"{row['precision']:8} {row['answer']:6} {row['step']:4} {row['ms']:9.1f} ms  {row['fps']:7.2f} fps",
            highlight=False,
            soft_wrap=True,
        )
    return rows


def _check(settings: Mapping[str, Any]) -> None:
    for key, minimum in (("frames", 1), ("burn_in", 0), ("rounds", 1)):
        check_whole(key, settings[key], minimum)
    check_number("seconds", settings["seconds"], above=0)
    check_switch("keep_memory", settings["keep_memory"])
    for threads in settings["threads"]:
        check_whole("threads", threads, 1, words=("all",))
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
    sizes = settings["sizes"]
    if not sizes or not all(_is_size(size) for size in sizes):
        raise RequestError(f"sizes={sizes} is no list of heights and widths: set sizes=[[1024,2048],[512,1024]].")
    for key in ("onnx", "image", "int8"):
        if settings[key]:
            check_file(Path(settings[key]), key, f"Name one, or leave {key} out.")
    first = (sizes[0][0], sizes[0][1])
    if settings["onnx"]:
        check_logits(f"onnx={settings['onnx']}", Path(settings["onnx"]), "onnx", first)
    if settings["int8"] and "openvino" in settings["runtimes"]:
        _check_int8(Path(settings["int8"]), [(height, width) for height, width in sizes])


def _check_int8(file: Path, sizes: Sequence[tuple[int, int]]) -> None:
    described = read_description(file) if file.suffix == ".xml" else {}
    smallest = known_smallest_side(file, "openvino", described)
    for height, width in sizes:
        if min(height, width) < smallest:
            raise RequestError(
                f"int8={file} runs from {smallest} pixels a side on with this processor, and sizes= has "
                f"{height}x{width}: leave that out."
            )
    check_logits(f"int8={file}", file, "openvino", sizes[0])


def _is_size(size: Any) -> bool:
    return isinstance(size, Sequence) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)


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
