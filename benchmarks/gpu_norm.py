"""BatchNorm with its activation in training on a GPU, forward and backward: the fused programs beside torch's own.

    python benchmarks/gpu_norm.py [--size 1024x2048] [--batch 12] [--seconds 60] [--dry-run]

Every BatchNorm of Fast-SCNN and its two heads at this size, alike ones once, bf16 and channels_last, as a step under
autocast has them; those that move the most first. Each variant is captured into a CUDA graph, and the graphs are
replayed in turns. Writes results/gpu_norm.json: microseconds of each, the bytes a second of what has to be read and
written, and the sum over the network. With --dry-run the script tries itself on the CPU, in Triton's interpreter.
"""

import argparse
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

from fastscnn.kernels.cuda import norm as cuda_norm
from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.fused_norm import sequences
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_norm.json"
TILES = {"ours": (2048, 64), "ours, large tiles": (4096, 64), "ours, wide tiles": (4096, 128)}
"""`VALUES` and `MOST_CHANNELS` of the programs; the first is what they are."""
CALLS, ROUNDS = 4, 9
PASSES = 8
"""Times that a tensor of the features' size is read or written: three forward, five backward."""


class Layer(NamedTuple):
    """A BatchNorm's input [B, C, H, W] and the activation after it."""

    shape: tuple[int, ...]
    activation: type[nn.Module] | None

    def __str__(self) -> str:
        batch, channels, height, width = self.shape
        after = self.activation.__name__ if self.activation else "none"
        return f"{batch}x{channels}x{height}x{width}, {after}"


def layers_of(batch: int, size: tuple[int, int]) -> dict[Layer, int]:
    """The BatchNorms of a training step, and how often each is there; the largest first."""
    network = FastSCNN(19).to("meta")
    heads = nn.ModuleList(AuxiliaryHead(channels, 19) for channels in network.auxiliary_channels).to("meta")
    found: dict[Layer, int] = {}

    def count(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        layer = Layer(tuple(inputs[0].shape), after[norm])
        found[layer] = found.get(layer, 0) + 1

    steps = [step for part in (network, heads) for _, steps in sequences(part) for step in steps if step.fuses]
    after = {step.layer: type(step.activation) if step.activation else None for step in steps}
    for norm in after:
        norm.register_forward_hook(count)
    features = network.features(torch.empty(batch, 3, *size, device="meta"))
    for head, inner in zip(heads, features.inner, strict=True):
        head(inner)
    return dict(sorted(found.items(), key=lambda item: -item[1] * torch.Size(item[0].shape).numel()))


def step_of(layer: Layer, variant: str, device: str, dtype: torch.dtype) -> Any:
    """Forward and backward once; returns output and gradients."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(layer.shape[1], device=device)
    activation = None if layer.activation is None else layer.activation(inplace=True)
    images = torch.randn(layer.shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    images.requires_grad_()
    gradient = torch.randn_like(images)

    def step() -> list[Tensor]:
        if variant == "eager":
            out = norm(images)
            out = out if activation is None else activation(out)
        else:
            cuda_norm.VALUES, cuda_norm.MOST_CHANNELS = TILES[variant]
            out = cuda_norm.batch_norm(images, norm, activation)
        return [out.detach(), *torch.autograd.grad(out, [images, norm.weight, norm.bias], gradient)]

    return step


def measure(layer: Layer, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Median microseconds of each variant, and how far each is from the first."""
    times: dict[str, list[float]] = {}
    graphs, first, differences = {}, None, {}
    for variant in (*TILES, "eager"):
        step = step_of(layer, variant, device, dtype)
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
    moved = PASSES * torch.Size(layer.shape).numel() * dtype.itemsize
    return {"us": us, "terabytes_a_second": moved / us["ours"] / 1e6, "differences": differences}


def main() -> None:
    arguments = parsed()
    started = time.monotonic()
    device, dtype = ("cpu", torch.float32) if arguments.dry_run else ("cuda", torch.bfloat16)
    height, width = (int(side) for side in arguments.size.split("x"))
    layers = layers_of(arguments.batch, (height, width))
    if arguments.dry_run:
        layers = dict(list(layers.items())[-3:])
    result: dict[str, Any] = {
        "what": "BatchNorm and activation, forward and backward, microseconds; shape, activation, and how often",
        "size": arguments.size,
        "batch": arguments.batch,
        "tiles": TILES,
        **measured(),
        "layers": {},
    }
    arguments.output.parent.mkdir(exist_ok=True)
    for layer, count in layers.items():
        if time.monotonic() - started > arguments.seconds:
            break
        found = {"count": count, **measure(layer, device, dtype)}
        result["layers"][str(layer)] = found
        result["left_out"] = [str(other) for other in layers if str(other) not in result["layers"]]
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
    parser.add_argument("--size", default="1024x2048")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in Triton's interpreter")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.output == RESULTS:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    return arguments


if __name__ == "__main__":
    main()
