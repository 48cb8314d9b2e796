"""Layers of a training step on a GPU, forward and backward: programs of ours beside torch's own.

    python benchmarks/gpu_training_layers.py norm|depthwise [--size 1024x2048] [--batch 12] [--seconds 60] [--dry-run]

Every BatchNorm with its activation, or every depthwise convolution, of Fast-SCNN and its two heads at this size, alike
ones once, bf16 and channels_last, as a step under autocast has them; those that move the most first. Each variant is
captured into a CUDA graph, and the graphs are replayed in turns. Writes results/gpu_norm.json or gpu_depthwise.json:
microseconds of each, the bytes a second of what has to be read and written, and the sum over the network. With
--dry-run the script tries itself on the CPU, in Triton's interpreter.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

if "--dry-run" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch
from gpu_timing import captured, replay_time
from harness import interleaved, medians, timed
from machine import measured
from torch import Tensor, nn

from fastscnn.kernels.cuda import depthwise_training, norm
from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.layer_programs import Step, sequences
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
KINDS: dict[str, Any] = {"norm": norm, "depthwise": depthwise_training}
TILES = {
    "norm": {"ours": (2048, 64), "ours, large tiles": (4096, 64), "ours, wide tiles": (4096, 128)},
    "depthwise": {"ours": (1024, 64), "ours, small tiles": (512, 64), "ours, narrow tiles": (1024, 32)},
}
"""`VALUES` and `MOST_CHANNELS` of the programs; the first is what they are."""
CALLS, ROUNDS = 4, 9
PASSES = {"norm": (5, 3), "depthwise": (3, 2)}
"""Times that the input and that the output, or their gradients, have to be read or written, forward and backward.

A BatchNorm reads its input four times and writes the gradient once; it writes its output and reads the gradient twice.
A convolution reads its input twice and writes the gradient once; it writes its output and reads the gradient once.
"""


class Layer(NamedTuple):
    """A layer, its input [B, C, H, W] and its output."""

    step: Step
    shape: torch.Size
    out: torch.Size

    def __str__(self) -> str:
        layer: Any = self.step.layer
        after = f", {type(self.step.activation).__name__}" if self.step.activation else ""
        geometry = f", stride {layer.stride[0]}, dilation {layer.dilation[0]}" if isinstance(layer, nn.Conv2d) else ""
        return "x".join(map(str, self.shape)) + geometry + after


def layers_of(kind: str, batch: int, size: tuple[int, int]) -> list[tuple[Layer, int]]:
    """The layers of a training step, and how often each is there; those with the largest inputs first."""
    network = FastSCNN(19).to("meta")
    heads = nn.ModuleList(AuxiliaryHead(channels, 19) for channels in network.auxiliary_channels).to("meta")
    steps = {
        step.layer: step
        for part in (network, heads)
        for _, all_steps in sequences(part, [KINDS[kind]])
        for step in all_steps
        if step.programs
    }
    found: dict[str, tuple[Layer, int]] = {}

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layer = Layer(steps[module], inputs[0].shape, output.shape)
        found[str(layer)] = layer, found.get(str(layer), (layer, 0))[1] + 1

    for module in steps:
        module.register_forward_hook(count)
    features = network.features(torch.empty(batch, 3, *size, device="meta"))
    for head, inner in zip(heads, features.inner, strict=True):
        head(inner)
    return sorted(found.values(), key=lambda item: -item[1] * item[0].shape.numel())


def step_of(kind: str, layer: Layer, variant: str, device: str, dtype: torch.dtype) -> Any:
    """Forward and backward once; returns output and gradients."""
    torch.manual_seed(0)
    module: Any = layer.step.layer
    own = module.to_empty(device=device)
    own._forward_hooks.clear()
    own.reset_parameters()
    own.to(memory_format=torch.channels_last)
    images, gradient = (
        torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        for shape in (layer.shape, layer.out)
    )
    images.requires_grad_()
    programs = KINDS[kind]
    if device == "cpu":
        programs._runs_on = lambda device: True

    def step() -> list[Tensor]:
        if variant == "eager":
            block = contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)
            with block:
                out = own(images)
                out = out if layer.step.activation is None else layer.step.activation(out)
        else:
            programs.VALUES, programs.MOST_CHANNELS = TILES[kind][variant]
            assert programs.applies(images, own)
            out = programs.compute(images, own, layer.step.activation)
        return [out.detach(), *torch.autograd.grad(out, [images, *own.parameters()], gradient)]

    return step


def measure(kind: str, layer: Layer, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Median microseconds of each variant, and how far each is from the first."""
    times: dict[str, list[float]] = {}
    graphs, first, differences = {}, None, {}
    tuned = list(TILES[kind])[: None if device == "cuda" else 1]
    for variant in (*tuned, "eager"):
        step = step_of(kind, layer, variant, device, dtype)
        found = [tensor.float() for tensor in step()]
        first = found if first is None else first
        differences[variant] = max(
            float((one - other).norm() / other.norm().clamp(min=1e-30)) for one, other in zip(found, first, strict=True)
        )
        del found
        graphs[variant] = captured(step, CALLS) if device == "cuda" else step
        times[variant] = []
    for _, variant in interleaved(graphs, ROUNDS if device == "cuda" else 1):
        graph = graphs[variant]
        times[variant].append(replay_time(graph) / CALLS if device == "cuda" else timed(graph)[0] * 1e6)
    us = medians(times)
    inputs, outputs = PASSES[kind]
    moved = (inputs * layer.shape.numel() + outputs * layer.out.numel()) * dtype.itemsize
    return {"us": us, "terabytes_a_second": moved / us["ours"] / 1e6, "differences": differences}


def main() -> None:
    arguments = parsed()
    started = time.monotonic()
    device, dtype = ("cpu", torch.float32) if arguments.dry_run else ("cuda", torch.bfloat16)
    height, width = (int(side) for side in arguments.size.split("x"))
    layers = layers_of(arguments.kind, arguments.batch, (height, width))
    if arguments.dry_run:
        layers = [min(layers, key=lambda item: (item[0].shape[1], item[0].shape.numel()))]
    result: dict[str, Any] = {
        "what": f"{arguments.kind}, forward and backward, microseconds; shape of the input, and how often",
        "size": arguments.size,
        "batch": arguments.batch,
        "tiles": TILES[arguments.kind],
        **measured(),
        "layers": {},
    }
    arguments.output.parent.mkdir(exist_ok=True)
    for layer, count in layers:
        if time.monotonic() - started > arguments.seconds:
            break
        found = {"count": count, **measure(arguments.kind, layer, device, dtype)}
        result["layers"][str(layer)] = found
        result["left_out"] = [str(other) for other, _ in layers if str(other) not in result["layers"]]
        result["sum_us"] = {
            variant: sum(entry["count"] * entry["us"][variant] for entry in result["layers"].values())
            for variant in found["us"]
        }
        write_json(arguments.output, result)
        each = ", ".join(f"{variant} {us:.0f}" for variant, us in found["us"].items())
        print(f"{count} x {layer}: {each} us, {found['terabytes_a_second']:.2f} TB/s", flush=True)
        if device == "cuda":
            torch.cuda.empty_cache()
    print("sum:", ", ".join(f"{variant} {us / 1000:.2f} ms" for variant, us in result["sum_us"].items()))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--size", default="1024x2048")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in Triton's interpreter")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.output is None:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    arguments.output = arguments.output or RESULTS / f"gpu_{arguments.kind}.json"
    return arguments


if __name__ == "__main__":
    main()
