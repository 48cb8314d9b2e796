"""One training step on a GPU taken apart: forward, loss and backward, and the kernels that each variant's time goes to.

    python benchmarks/gpu_step.py [--size 1024x2048] [--batch 12] [--rounds 10] [--dry-run]

Fast-SCNN with its two heads and the fused loss, bf16 autocast, channels_last, random frames and labels: what a step of
`benchmarks/gpu_training.py` does, without loader, optimizer and Lightning. The variants take turns; each also as one
CUDA graph, as a run replays it. Writes results/gpu_step.json with the 25 kernels that take the most time of each
variant. With --dry-run the script tries itself on the CPU, where all layers are torch's.
"""

import argparse
import contextlib
import copy
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from gpu_timing import captured, profile, replay_time, synchronize
from harness import interleaved, medians
from machine import measured
from torch import Tensor, nn

from fastscnn.kernels import upsample_cross_entropy
from fastscnn.kernels.cuda import depthwise_training, norm
from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.layer_programs import LayerPrograms
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_step.json"
VARIANTS: dict[str, Callable[[nn.Module], Any]] = {
    "torch's layers": lambda module: contextlib.nullcontext(),
    "fused norm": lambda module: LayerPrograms(module, [norm]),
    "fused norm, depthwise": lambda module: LayerPrograms(module, [norm, depthwise_training]),
}
PARTS = ("forward", "loss", "backward")


class Trained(nn.Module):
    """The network and its heads."""

    def __init__(self) -> None:
        super().__init__()
        self.network = FastSCNN(19)
        self.heads = nn.ModuleList(AuxiliaryHead(channels, 19) for channels in self.network.auxiliary_channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of the classifier and the heads."""
        features = self.network.features(images)
        return [features.logits, *(head(inner) for head, inner in zip(self.heads, features.inner, strict=True))]


def step_of(module: nn.Module, block: Any, images: Tensor, labels: Tensor) -> Callable[[Callable[[], None]], None]:
    """A step that calls back after each part."""
    kind = images.device.type

    def step(done: Callable[[], None]) -> None:
        module.zero_grad()
        with torch.autocast(kind, torch.bfloat16, cache_enabled=False):
            with block:
                outputs = module(images)
            done()
            loss: Any = sum(upsample_cross_entropy(logits, labels) for logits in outputs)
            done()
        loss.backward()
        done()

    return step


def parts_of(step: Callable[[Callable[[], None]], None], device: torch.device) -> list[float]:
    """Milliseconds of the three parts, by the GPU's own clock where there is one."""
    marks: list[Any] = []

    def mark() -> None:
        if device.type == "cuda":
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()
        else:
            marks.append(time.perf_counter())

    mark()
    step(mark)
    synchronize(device)
    if device.type == "cuda":
        return [one.elapsed_time(other) for one, other in pairwise(marks)]
    return [(other - one) * 1000 for one, other in pairwise(marks)]


def main() -> None:
    arguments = parsed()
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    height, width = (64, 128) if arguments.dry_run else (int(side) for side in arguments.size.split("x"))
    torch.manual_seed(0)
    batch = 2 if arguments.dry_run else arguments.batch
    images = torch.randn(batch, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 19, (batch, height, width), device=device).to(torch.uint8)
    module = Trained().to(device).to(memory_format=torch.channels_last).train()
    steps = {}
    for name, block in VARIANTS.items():
        own = copy.deepcopy(module)
        steps[name] = step_of(own, block(own), images, labels)
    result: dict[str, Any] = {
        "what": "a training step without loader and optimizer, bf16 autocast, ms",
        "size": f"{height}x{width}",
        "batch": batch,
        **measured(),
        "variants": {},
    }
    times: dict[str, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in steps}
    for number, name in interleaved(steps, arguments.rounds + 1):
        found = parts_of(steps[name], device)
        for part, ms in zip(PARTS, found, strict=True):
            if number:  # the first compiles and chooses
                times[name][part].append(ms)
    for name in steps:
        result["variants"][name] = {"ms": medians(times[name]), "of_each_round": times[name]}
    write_json(arguments.output, result)
    if device.type == "cuda":
        on_gpu(steps, arguments, result)
    for name, found in result["variants"].items():
        parts = ", ".join(f"{part} {ms:.2f}" for part, ms in found["ms"].items())
        print(f"{name:20} {parts} ms; as a graph {found.get('graph_ms', float('nan')):.2f} ms")
        for row in found.get("kernels", ()):
            print(f"  {row['us']:9.1f} us {row['launches']:6.1f} x {row['kernel']}")


def on_gpu(steps: dict[str, Any], arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Add each variant's kernels, and its time as one graph; written as they come."""
    for name, step in steps.items():
        result["variants"][name]["kernels"] = profile(lambda step=step: step(lambda: None), calls=3, most=25)
        write_json(arguments.output, result)
    for name, step in steps.items():  # one after another: each graph keeps a step's memory
        torch.cuda.empty_cache()
        graph = captured(lambda step=step: step(lambda: None), 1)
        times = [replay_time(graph) / 1000 for _ in range(arguments.rounds)]
        del graph
        result["variants"][name]["graph_ms"] = statistics.median(times)
        write_json(arguments.output, result)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1024x2048")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, on small frames")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.output == RESULTS:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    return arguments


if __name__ == "__main__":
    main()
