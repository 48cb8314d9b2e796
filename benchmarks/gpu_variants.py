"""What `gpu_inference.py` times: ours with one constant or another, eager and compiled torch, and the paper's peers."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.backends import triton_layers
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.kernels.cuda import separable
from fastscnn.kernels.cuda.choice import AFTER, EARLY, LATE, Choice
from fastscnn.models.fast_scnn import FastSCNN

OURS = "ours, triton fp16"
CHOICES = {
    f"{OURS}, launches {when}{', walking' if walks else ''}": Choice(overlaps, walks)
    for when, overlaps in (("late", LATE), ("early", EARLY), ("after", AFTER))
    for walks in (True, False)
}
ONE_AFTER_ANOTHER = f"{OURS}, launches after"
FILTERS = f"{OURS}, one launch for depthwise and 1x1"
MEASURED = f"{OURS}, each layer as measured"


def engines(device: torch.device) -> list[tuple[str, dict[str, Any]]]:
    """What `GraphRunner` is measured with; the most interesting first."""
    if device.type == "cpu":
        return [("ours, torch fp32", {"engine": "torch", "dtype": torch.float32, "device": device})]
    half = [("triton", torch.float16), ("torch", torch.float16), ("triton", torch.bfloat16), ("compile", torch.float16)]
    names = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    return [(f"ours, {engine} {names[dtype]}", {"engine": engine, "dtype": dtype}) for engine, dtype in half]


def changed(module: ModuleType, name: str, value: Any, network: FastSCNN) -> Callable[[Tensor], Tensor]:
    """A runner that is captured and called with another value of a module's constant."""
    runner = GraphRunner(network, engine="triton", dtype=torch.float16)

    def run(frame: Tensor) -> Tensor:
        with mock.patch.object(module, name, value):
            return runner(frame)

    return run


def as_measured(layers_file: Path, network: FastSCNN) -> Callable[[Tensor], Tensor]:
    """A runner that shares out each layer as `gpu_layers.py` found best."""
    from gpu_layers import chosen_by

    run_layer = chosen_by(json.loads(layers_file.read_text())["best"])
    return changed(triton_layers, "depthwise_pointwise", run_layer, network)


def compile_ours(names: Sequence[str], seconds: float) -> None:
    """Compile our programs as each of these has them: a process of the calling script for each, all at one time."""
    children = [subprocess.Popen([sys.executable, *sys.argv, "--compile", name]) for name in names]
    until = time.monotonic() + seconds
    for child in children:
        try:
            child.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:  # what it has not compiled is compiled later
            child.kill()


def left_out_of_few(name: str) -> bool:
    return "compile" in name or "bf16" in name


def as_users_run(network: nn.Module, dtype: torch.dtype, device: torch.device, mode: str | None) -> Callable[..., Any]:
    """A whole network with its upsampling and argmax; eager where mode is None, else compiled in that mode."""
    body: Any = deepcopy(network).eval().to(memory_format=torch.channels_last).to(device, dtype)
    mean, deviation = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))

    def run(frame: Tensor) -> Tensor:
        images = ((frame.permute(0, 3, 1, 2).float() - mean) / deviation).to(dtype)
        labels: Tensor = body(images).argmax(1).to(torch.uint8)
        return labels

    return run if mode is None else torch.compile(run, mode=mode, dynamic=False)


def variants(
    network: FastSCNN, device: torch.device, peers: list[str] | None, layers_file: Path | None = None
) -> list[tuple[str, Callable[[], Callable[..., Any]]]]:
    """Name and maker of everything that is timed, in the order of what must not be missed."""
    found = [(name, partial(GraphRunner, network, **options)) for name, options in engines(device)]
    last = found.pop() if device.type == "cuda" else None  # the compiled one takes minutes
    if last is not None:
        ours = partial(GraphRunner, network, engine="triton", dtype=torch.float16)
        found[1:1] = [(name, partial(ours, choice=choice)) for name, choice in CHOICES.items()]
        if layers_file is not None:
            found.insert(2, (MEASURED, partial(as_measured, layers_file, network)))
        found.append((FILTERS, partial(changed, separable, "APART", 1 << 30, network)))
    found.append(("eager fp32", partial(as_users_run, network, torch.float32, device, None)))
    if last is not None:
        found.append(("eager fp16", partial(as_users_run, network, torch.float16, device, None)))
        found.append(("compiled fp16", partial(as_users_run, network, torch.float16, device, "reduce-overhead")))
    for name in known_peers() if peers is None else peers:
        for label, mode in (("eager", None), ("compiled", "reduce-overhead"))[: 1 if device.type == "cpu" else 2]:
            dtype = torch.float32 if device.type == "cpu" else torch.float16
            found.append((f"{name} {label}", partial(build_peer, name, dtype, device, mode)))
    if last is not None:
        found.append(last)
        found.append(
            ("compiled fp16, autotuned", partial(as_users_run, network, torch.float16, device, "max-autotune"))
        )
    return found


def known_peers() -> list[str]:
    """The paper's peers; none where their library is not installed."""
    try:
        import pytorchcv  # noqa: F401

        from fastscnn.models.peers import PEERS
    except ImportError:
        return []
    return list(PEERS)


def build_peer(name: str, dtype: torch.dtype, device: torch.device, mode: str | None) -> Callable[..., Any]:
    from fastscnn.models.peers import Peer

    return as_users_run(Peer(name, 19).eval().requires_grad_(False), dtype, device, mode)
