"""Table 6 on this machine: models, backends, sizes and outputs, timed in interleaved rounds."""

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

from fastscnn.benchmark.timing import Variant, interleave
from fastscnn.benchmark.variants import (
    NAMES,
    Stage,
    check_logits,
    external,
    from_file,
    torch_alone,
    variants,
    with_fused_head,
)
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frames import read_image
from fastscnn.inference.backends.backends import torch_threads
from fastscnn.inference.backends.choose import choose
from fastscnn.inference.files.runtimes import read_description
from fastscnn.inference.files.smallest import known_smallest_side
from fastscnn.inference.loader import Trained, load_trained
from fastscnn.models.build import build_network
from fastscnn.models.external import short_name
from fastscnn.models.flops import count_parameters
from fastscnn.models.peers import PEERS
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_file, write_png
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.values import check_choice, check_number, check_size, check_switch, check_whole

OURS = "fast_scnn"
WITH_HEAD = ("onnx", "openvino")
"""Backends in which the fused head takes a peer's logits as well."""
OUTPUTS = ("labels", "probabilities", "files")
"""What `write` may ask for."""
PEERS_OUTPUTS = ["labels"]
"""The outputs of a peer; the paper gives probabilities for Fast-SCNN alone."""


def measure(
    settings: Mapping[str, Any], save: Callable[[dict[str, Any]], None] = lambda result: None
) -> dict[str, Any]:
    """Time every variant that the settings ask for.

    The variants of each peer are timed in turn with ours, size after size, so that compared numbers were measured side
    by side.

    Args:
        settings: The plain config of `conf/benchmark.yaml`.
        save: Called with the results so far after each group of variants, because a run of hours may be stopped.

    Returns:
        `rows`, one for each variant, and `models`: parameters, name and note of each.

    Raises:
        RequestError: A setting is wrong.
    """
    _check(settings)
    console = Console(stderr=True)
    if settings["keep_memory"]:
        keep_freed_memory()
    own = load_trained(settings["checkpoint"], trust=settings["trust"]) if settings["checkpoint"] else None
    other = None if own is None or own.config["model"]["name"] == OURS else own
    ours = _built(OURS) if own is None or other else own
    described = {name: _described(name, ours if name == OURS else _built(name)) for name in settings["models"]}
    if other:
        described[_title(other)] = _described(_title(other), other)
    if settings["onnx"]:
        file = Path(settings["onnx"])
        note = "An ONNX file; the fused head takes its output."
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
                    for group in _groups(ours, other, stage, settings):
                        result["rows"] += _timed(group, stage, settings, console)
                        save(result)
                        group.clear()
                        gc.collect()
    return result


def _groups(ours: Trained, other: Trained | None, stage: Stage, settings: Mapping[str, Any]) -> Iterator[list[Variant]]:
    """The groups that are timed in turn: all variants of ours; or one backend of another network, beside ours.

    Memory holds no more than one backend of another network.
    """
    for name in [*settings["models"], *([_title(other)] if other else [])]:
        if name == OURS:
            yield list(_our_variants(ours, stage, settings))
            continue
        peer = other if other and name == _title(other) else _built(name)
        upsamples = peer.network.stride > 1
        for backend in settings["backends"]:
            if backend == "triton" or (backend == "compile" and name not in settings["compile_models"]):
                continue
            # Logits of full size become labels by one argmax: there is no network alone to time.
            outputs = ["logits", *PEERS_OUTPUTS] if upsamples else PEERS_OUTPUTS
            group = list(variants(name, peer, stage, [backend], outputs, WITH_HEAD if upsamples else ("onnx",)))
            if OURS in settings["models"]:
                beside = "onnx" if "onnx" in settings["backends"] else "torch"
                for variant in with_fused_head(OURS, ours, beside, stage, ["labels"]):
                    marked = {**variant.key, "beside": f"{name}, {NAMES[backend][0]}"}
                    group.append(Variant(marked, variant.run))
            yield group
    if settings["onnx"]:
        yield list(external(Path(settings["onnx"]), stage, ["logits", "labels"]))


def _our_variants(ours: Trained, stage: Stage, settings: Mapping[str, Any]) -> Iterator[Variant]:
    outputs = ["logits", *settings["write"]]
    backends = [
        backend for backend in settings["backends"] if backend != "compile" or OURS in settings["compile_models"]
    ]
    yield from variants(OURS, ours, stage, backends, outputs)
    yield from torch_alone(OURS, ours, stage, outputs)
    if settings["int8"]:
        yield from from_file(OURS, Path(settings["int8"]), ours, stage, outputs, "int8")


def _timed(
    group: Sequence[Variant], stage: Stage, settings: Mapping[str, Any], console: Console
) -> list[dict[str, Any]]:
    """Time a group; the rows of ours count the labels that differ from those of the first variant."""
    interleave(
        group,
        frames=settings["frames"],
        warm_up=settings["warm_up"],
        rounds=settings["rounds"],
        seconds=settings["seconds"],
    )
    rows = [variant.summary() for variant in group]
    if len({row["model"] for row in rows}) == 1 and rows[0]["model"] == OURS:
        labels = {
            place: np.asarray(variant.run()).reshape(stage.size)
            for place, variant in enumerate(group)
            if variant.key["output"] == "labels"
        }
        reference = labels[min(labels)]
        for place, found in labels.items():
            rows[place]["labels_that_differ"] = int((found != reference).sum())
    for row in rows:
        console.print(
            f"{row['model']:12} {row['height']}x{row['width']} {row['threads']} thread(s)  {row['runtime']:14} "
            f"{row['precision']:8} {row['output']:13} head {row['head']:5} {row['ms']:9.1f} ms  {row['fps']:7.2f} fps",
            highlight=False,
            soft_wrap=True,
        )
    return rows


def _check(settings: Mapping[str, Any]) -> None:
    for key, minimum in (("frames", 1), ("warm_up", 0), ("rounds", 1)):
        check_whole(key, settings[key], minimum)
    check_number("seconds", settings["seconds"], above=0)
    check_switch("keep_memory", settings["keep_memory"])
    for threads in settings["threads"]:
        check_whole("threads", threads, 1, words=("all",))
    for key, options in (("models", (OURS, *PEERS)), ("backends", tuple(NAMES)), ("write", OUTPUTS)):
        for value in settings[key]:
            check_choice(key, value, options)
    if "labels" not in settings["write"]:
        raise RequestError(
            f"write={settings['write']} has no labels, with which all other outputs are compared.",
            key="write",
            fix="Add labels.",
        )
    if "triton" in settings["backends"]:
        choose("triton")
    if not settings["sizes"]:
        raise RequestError("sizes=[] is empty.", key="sizes", fix="Set sizes=[[1024,2048],[512,1024]].")
    sizes = settings["sizes"]
    for size in sizes:
        check_size("sizes", size)
    for key in ("onnx", "image", "int8"):
        if settings[key]:
            check_file(Path(settings[key]), key, f"Name one, or leave {key} out.")
    first = (sizes[0][0], sizes[0][1])
    if settings["onnx"]:
        check_logits("onnx", Path(settings["onnx"]), "onnx", first)
    if settings["int8"] and "openvino" in settings["backends"]:
        _check_int8(Path(settings["int8"]), [(height, width) for height, width in sizes])


def _check_int8(file: Path, sizes: Sequence[tuple[int, int]]) -> None:
    described = read_description(file) if file.suffix == ".xml" else {}
    smallest = known_smallest_side(file, "openvino", described)
    for height, width in sizes:
        if min(height, width) < smallest:
            raise RequestError(
                f"int8={file} takes images of {smallest} pixels a side or more on this processor, and sizes= has "
                f"{height}x{width}.",
                key="sizes",
                fix="Leave that size out.",
            )
    check_logits("int8", file, "openvino", sizes[0])


def _built(name: str) -> Trained:
    """A network with random weights, which take the same time as trained ones."""
    torch.manual_seed(0)
    network = build_network({"name": name}, CITYSCAPES.num_classes).eval().requires_grad_(False)
    return Trained(network, CITYSCAPES, {})


def _title(trained: Trained) -> str:
    """The name of a checkpoint's network that is not ours, beside those of `models`."""
    return f"{short_name(trained.config['model'])} (checkpoint)"


def _described(name: str, trained: Trained) -> dict[str, Any]:
    parameters = count_parameters(trained.network)[0]
    if name == OURS:
        note = "Ours. The paper's count leaves BatchNorm out: 1,114,115 here."
        return {"name": "Fast-SCNN", "parameters": parameters, "paper_parameters": 1.11, "note": note}
    if name not in PEERS:
        return {"name": name, "parameters": parameters, "note": "The network of checkpoint=."}
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
