"""Measure once on a GPU what its programs leave open, and keep it for every later run on this GPU.

    python benchmarks/gpu_choices.py [--sizes 1024x2048 512x1024] [--dry-run]

When a launch may begin, whether blocks of a depthwise convolution walk down the rows, and the tile of the labels: one
after another, by whole frames, replayed as a CUDA graph. The results are the same whatever is chosen. Run it again
after another Triton was installed: what was measured with one is not used with another. Writes the file that
`fastscnn.inference.backends.gpu_choices` names, and results/gpu_choices.json. With --dry-run the script tries itself on
the CPU and keeps nothing.
"""

import argparse
import math
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_inference import load, random_frames
from gpu_timing import synchronize
from gpu_variants import CHOICES, compile_ours
from machine import measured

from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.inference.backends.gpu_choices import keep, quickest, read
from fastscnn.kernels.cuda.choice import Choice, usual
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_choices.json"
CALLS = 20


def microseconds(network: FastSCNN, frame: torch.Tensor, engine: str, rounds: int, choice: Choice) -> float:
    """Of a frame, back to back; infinity where this GPU cannot compute by this choice."""
    try:
        runner = GraphRunner(network, engine=engine, device=frame.device, dtype=dtype_of(frame.device), choice=choice)
        runner(frame)
    except Exception as error:  # a tile that does not fit must not cost the others
        print(f"{choice}: {str(error)[:100]}", flush=True)
        return math.inf
    times = []
    for _ in range(rounds):
        synchronize(frame.device)
        begun = time.perf_counter()
        for _ in range(CALLS):
            runner(frame)
        synchronize(frame.device)
        times.append((time.perf_counter() - begun) * 1e6 / CALLS)
    print(choice, round(statistics.median(times), 1), flush=True)
    return statistics.median(times)


def dtype_of(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.float16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["1024x2048", "512x1024"], help="HEIGHTxWIDTH")
    parser.add_argument("--compile", choices=CHOICES, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    device, engine = (torch.device("cpu"), "torch") if arguments.dry_run else (torch.device("cuda"), "triton")
    network = load(None)
    sizes = [tuple(int(side) for side in name.split("x")) for name in arguments.sizes]
    frames = [random_frames((16, 24) if arguments.dry_run else size, device)[0] for size in sizes]
    if arguments.compile:
        runner = GraphRunner(network, engine=engine, choice=CHOICES[arguments.compile])
        for frame in frames:
            runner(frame)
        return
    if not arguments.dry_run:
        compile_ours(list(CHOICES), 90)
    chosen: dict[int, Choice] = {} if arguments.dry_run else read(device)
    result: dict[str, Any] = {"what": "microseconds of a frame, back to back, float16", "sizes": {}, **measured()}
    for name, frame in zip(arguments.sizes, frames, strict=True):
        pixels = frame.shape[1] * frame.shape[2]
        with torch.no_grad():
            time_of = partial(microseconds, network, frame, engine, arguments.rounds)
            time_of(usual(pixels))  # the GPU's clock goes up
            chosen[pixels], times = quickest(time_of, pixels)
        tried = [{**choice._asdict(), "us": us} for choice, us in times.items()]
        result["sizes"][name] = {"chosen": chosen[pixels]._asdict(), "tried": tried}
        arguments.output.parent.mkdir(exist_ok=True)
        write_json(arguments.output, result)
        print(f"{name}: {chosen[pixels]}", "" if arguments.dry_run else keep(device, chosen), flush=True)


if __name__ == "__main__":
    main()
