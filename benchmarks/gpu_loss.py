"""The fused loss on a GPU, forward and backward: the three heads of a training step, beside torch's own.

    python benchmarks/gpu_loss.py [--batch 12] [--rounds 10] [--dry-run]

Logits of 1/8, 1/8 and 1/32 of labels of 1024x2048, 19 classes, bf16, channels_last, as a step under autocast has
them. The variants take turns; each is checked against the first one. Writes results/gpu_loss.json, with what the time
goes to. With --dry-run the script tries itself on the CPU, on small labels.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from gpu_timing import profile, synchronize
from harness import interleaved, medians
from machine import measured
from torch import Tensor

from fastscnn.kernels import reference, upsample_cross_entropy
from fastscnn.kernels.cuda import loss as cuda_loss
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_loss.json"
CLASSES = 19
STRIDES = (8, 8, 32)
TUNED = {"one thread": 1024, "two threads": 512}
"""`VALUES` of the programs, how many threads share a piece; the first is what it is."""


def main() -> None:
    arguments = parsed()
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    size = (64, 128) if arguments.dry_run else (1024, 2048)
    torch.manual_seed(0)
    dtype = torch.float32 if arguments.dry_run else torch.bfloat16
    heads = [
        (torch.randn(arguments.batch, CLASSES, size[0] // stride, size[1] // stride, device=device) * 3)
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for stride in STRIDES
    ]
    labels = torch.randint(0, CLASSES, (arguments.batch, size[0] // 16, size[1] // 16), device=device)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)  # streets have areas, not noise
    labels = labels.where(torch.rand(labels.shape, device=device) > 0.1, 255).to(torch.uint8)

    def step(loss: Any) -> list[Tensor]:
        total: Any = sum(loss(logits, labels) for logits in heads)
        return [total.detach(), *torch.autograd.grad(total, heads)]

    variants = {"ours": (upsample_cross_entropy, None)}
    if device.type == "cuda":
        variants |= {f"ours, {name}": (upsample_cross_entropy, values) for name, values in list(TUNED.items())[1:]}
    variants["eager"] = (reference.upsample_cross_entropy, None)
    result: dict[str, Any] = {
        "what": "three heads, forward and backward, ms; batch and labels as below",
        "batch": arguments.batch,
        "labels": list(size),
        "strides": list(STRIDES),
        **measured(),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    first: list[Tensor] = []
    result["differences"], result["mebibytes"] = {}, {}
    for _, name in interleaved(variants, arguments.rounds):
        loss, values = variants[name]
        cuda_loss.VALUES = values or next(iter(TUNED.values()))
        if not times[name]:
            found, result["mebibytes"][name] = peak(lambda loss=loss: step(loss), device)
            first = first or found
            result["differences"][name] = [difference(a, b) for a, b in zip(found, first, strict=True)]
            del found
        times[name].append(elapsed(lambda loss=loss: step(loss), device, 1 if name == "eager" else 3))
    result["ms"] = medians(times)
    result["of_each_round"] = times
    if device.type == "cuda":
        cuda_loss.VALUES = next(iter(TUNED.values()))
        result["kernels"] = profile(lambda: step(upsample_cross_entropy), calls=5)
    arguments.output.parent.mkdir(exist_ok=True)
    write_json(arguments.output, result)
    for name, ms in result["ms"].items():
        print(f"{name:40} {ms:8.2f} ms {result['mebibytes'][name]:8.0f} MiB {result['differences'][name]}")
    for row in result.get("kernels", ()):
        print(f"  {row['us']:9.1f} us {row['launches']:5.1f} x {row['kernel']}")


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest, as a share of the largest expected value."""
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())


def peak(function: Any, device: torch.device) -> tuple[list[Tensor], float]:
    """What a first call returns, and the MiB that it takes at its peak; 0 on the CPU."""
    if device.type != "cuda":
        return function(), 0.0
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = function()
    return found, (torch.cuda.max_memory_allocated() - before) / 2**20


def elapsed(function: Any, device: torch.device, calls: int) -> float:
    """Milliseconds of a call, after one that is not counted."""
    function()
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(calls):
        function()
    synchronize(device)
    return (time.perf_counter() - begun) * 1000 / calls


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The fused loss on a GPU.")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, on small labels")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    if arguments.dry_run and arguments.output == RESULTS:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    return arguments


if __name__ == "__main__":
    main()
