"""Frames a second on a GPU by batch, and by two streams at a time: the Triton engine, uint8 frames to uint8 labels.

    python benchmarks/gpu_throughput.py [--sizes 1024x2048 512x1024] [--batches 1 2 4 8 16] [--dry-run]

All frames lie in the GPU's memory. Two streams are two runners, each in a thread and with memory of its own. Writes
results/gpu_throughput.json with the batch that serves best. With --dry-run the script tries itself on the CPU.
"""

import argparse
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import torch
from gpu_inference import load, random_frames
from gpu_timing import synchronize
from machine import measured
from torch import Tensor

from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_throughput.json"
SECONDS = 0.4
"""Of a measurement, about."""


def main() -> None:
    arguments = parsed()
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    network = load(arguments.checkpoint)
    options: dict[str, Any] = {"engine": "triton", "dtype": torch.float16}
    if arguments.dry_run:
        options = {"engine": "torch", "dtype": torch.float32, "device": device}
    result: dict[str, Any] = {
        "what": "frames a second, median of the rounds",
        "engine": options["engine"],
        **measured(),
    }
    result["sizes"] = {}
    for name in arguments.sizes:
        size = tuple(int(side) for side in name.split("x"))
        frames = random_frames(size, device)
        found: dict[str, float] = {}
        for batch in arguments.batches:
            images = torch.cat([frames[number % len(frames)] for number in range(batch)])
            found[f"batch {batch}"] = one_stream(GraphRunner(network, **options), images, arguments.rounds)
        for batch in arguments.batches[:2] if device.type == "cuda" else ():
            images = torch.cat([frames[number % len(frames)] for number in range(batch)])
            found[f"batch {batch}, two streams"] = two_streams(network, options, images, arguments.rounds)
        result["sizes"][name] = {"frames_per_second": found, "best": max(found, key=lambda key: found[key])}
        print(name, {key: round(value) for key, value in found.items()}, flush=True)
        arguments.output.parent.mkdir(exist_ok=True)
        write_json(arguments.output, result)


def calls_of(runner: GraphRunner, images: Tensor) -> int:
    """Calls that take about `SECONDS`; the first ones capture the graph."""
    runner(images)
    runner(images)
    synchronize(images.device)
    begun = time.perf_counter()
    runner(images)
    synchronize(images.device)
    return max(2, round(SECONDS / (time.perf_counter() - begun)))


def one_stream(runner: GraphRunner, images: Tensor, rounds: int) -> float:
    calls = calls_of(runner, images)
    rates = []
    for _ in range(rounds):
        synchronize(images.device)
        begun = time.perf_counter()
        for _ in range(calls):
            runner(images)
        synchronize(images.device)
        rates.append(calls * len(images) / (time.perf_counter() - begun))
    return statistics.median(rates)


def two_streams(network: FastSCNN, options: dict[str, Any], images: Tensor, rounds: int) -> float:
    runners = [GraphRunner(network, **options) for _ in range(2)]
    streams = [torch.cuda.Stream() for _ in runners]
    calls = min(calls_of(runner, images) for runner in runners)
    rates = []

    def serve(runner: GraphRunner, stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            for _ in range(calls):
                runner(images)

    for _ in range(rounds):
        synchronize(images.device)
        begun = time.perf_counter()
        threads = [threading.Thread(target=serve, args=pair) for pair in zip(runners, streams, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        synchronize(images.device)
        rates.append(2 * calls * len(images) / (time.perf_counter() - begun))
    return statistics.median(rates)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Frames a second on a GPU by batch.")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--sizes", nargs="+", default=None, help="HEIGHTxWIDTH")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    arguments.sizes = arguments.sizes or (["32x64"] if arguments.dry_run else ["1024x2048", "512x1024"])
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    if arguments.dry_run and arguments.output == RESULTS:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    return arguments


if __name__ == "__main__":
    main()
