"""Frames to labels on a GPU: ours, eager and compiled torch, and the paper's peers, in one interleaved run.

    python benchmarks/gpu_inference.py [--checkpoint FILE] [--seconds 540] [--sizes 1024x2048] [--peers NAME] [--few]

Each variant takes one uint8 frame that lies in the GPU's memory and leaves its labels there. It is built and warmed up
first (skipped where the time is nearly up), then all take turns. Results are checked before they are timed, and
written after each size: results/gpu_inference.json. With --dry-run the script tries itself on the CPU.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_timing import add_floor, copy_bandwidth, profile, synchronize, timeline
from gpu_variants import CHOICES, ONE_AFTER_ANOTHER, OURS, compile_ours, engines, left_out_of_few, variants
from harness import interleaved
from machine import measured
from torch import Tensor, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.inference.backends.gpu_choices import choice_for
from fastscnn.kernels import reference, upsample_labels, upsample_probabilities
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_inference.json"
SIZES = ("1024x2048", "512x1024", "256x512")
CHECKED = ((1024, 2048), (512, 1024), (805, 1619))
CLOSE = 0.02
"""Two logits that lie so near to one another may change places in half precision."""
FRAMES, BURST = 4, 20
COMPILING = 60
"""Seconds in which several processes compile our programs before anything is timed, at most."""


def main() -> None:
    arguments = parsed()
    started = time.monotonic()
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    network = load(arguments.checkpoint)
    if arguments.compile:
        run_once(arguments, network, device)
        return
    result: dict[str, Any] = {
        "what": "one uint8 frame to uint8 labels, batch one, both in the GPU's memory; microseconds, medians",
        "weights": "trained" if arguments.checkpoint else "random",
        "rounds": arguments.rounds,
        **measured(),
    }

    def save() -> None:
        arguments.output.parent.mkdir(exist_ok=True)
        write_json(arguments.output, result)

    with torch.no_grad():
        if not arguments.few:
            result["correctness"] = correctness(network, device, ((40, 72),) if arguments.dry_run else CHECKED)
            save()
        if device.type == "cuda":
            compile_ours([name for name, _ in wanted(arguments, network, device) if "triton" in name], COMPILING)
            result["bytes_per_second_copied"] = copy_bandwidth()
            save()
        result["sizes"] = {}
        for name in arguments.sizes:
            size = tuple(int(side) for side in name.split("x"))
            left = arguments.seconds - (time.monotonic() - started)
            result["sizes"][name] = measure_size(network, size, device, arguments, left)
            if "bytes_per_second_copied" in result:
                add_floor(result["sizes"][name], network, size, result["bytes_per_second_copied"])
            save()
            report(name, result["sizes"][name])
        if arguments.few:
            sizes = [tuple(int(side) for side in name.split("x")) for name in arguments.sizes]
            result["correctness"] = correctness(network, device, sizes, few=True)
            save()
    print(f"Written to {arguments.output}.")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Frames to labels on a GPU, side by side.")
    parser.add_argument("--checkpoint", type=Path, help="a trained Fast-SCNN; random weights without")
    parser.add_argument("--sizes", nargs="+", default=None, help="HEIGHTxWIDTH")
    parser.add_argument("--peers", nargs="*", default=None, help="names in fastscnn.models.peers; all without")
    parser.add_argument("--layers", type=Path, help="what gpu_layers.py wrote: one more variant, with its best ways")
    parser.add_argument("--few", action="store_true", help="leave out bf16 and what torch.compile takes minutes for")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=540, help="build nothing more when these are over")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--compile", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with what runs there, at tiny sizes")
    arguments = parser.parse_args()
    arguments.sizes = arguments.sizes or (["32x64"] if arguments.dry_run else list(SIZES))
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU: --dry-run tries the script on the CPU")
    if arguments.dry_run and arguments.output == RESULTS:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    return arguments


def load(checkpoint: Path | None) -> FastSCNN:
    if checkpoint is not None:
        from fastscnn.inference.loader import load_trained

        network = load_trained(checkpoint).network
        assert isinstance(network, FastSCNN)
        return network
    torch.manual_seed(0)
    network = FastSCNN(19).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return network


def random_frames(size: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Frames with structure, uint8 [1, H, W, 3]: noise alone would be one class everywhere."""
    noise = torch.rand(FRAMES, 3, 1 + size[0] // 32, 1 + size[1] // 32, device=device)
    smooth = nn.functional.interpolate(noise, size, mode="bicubic").clamp(0, 1)
    frames = (smooth * 200 + torch.rand(smooth.shape, device=device) * 55).to(torch.uint8)
    return [frame.permute(1, 2, 0)[None].contiguous() for frame in frames]


def correctness(
    network: FastSCNN, device: torch.device, sizes: Sequence[tuple[int, ...]], *, few: bool = False
) -> dict[str, Any]:
    """Pixels that differ, of how many: of the fused step from the reference, and of each engine from fp32."""
    found: dict[str, Any] = {}
    exact = deepcopy(network).to(device)
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    for size in sizes:
        frame = random_frames(size, device)[0]
        logits = exact.coarse_logits(normalized(frame, torch.float32))
        labels = upsample_labels(logits, size)
        probabilities = upsample_probabilities(logits, size)
        expected = reference.upsample_probabilities(logits, size)
        entry: dict[str, Any] = {
            "pixels": labels.numel(),
            "fused_labels_differ": differing(labels, reference.upsample_labels(logits, size)),
            "fused_labels_differ_from_cpu": differing(labels.cpu(), reference.upsample_labels(logits.cpu(), size)),
            "fused_probabilities_error": float((probabilities - expected).abs().max()),
        }
        best, second = (nn.functional.interpolate(logits, size, mode="bilinear").topk(2, 1).values).unbind(1)
        decided = best - second > CLOSE
        for name, options in engines(device):
            if not left_out_of_few(name) if few else "compile" not in name:
                found_labels = GraphRunner(network, **options)(frame)
                entry[f"{name} differ from fp32"] = differing(found_labels, labels)
                entry[f"{name} differ by more than {CLOSE}"] = differing(found_labels[decided], labels[decided])
        found["x".join(map(str, size))] = entry
        print(size, entry, flush=True)
    torch.backends.cudnn.allow_tf32 = tf32
    return found


def differing(labels: Tensor, others: Tensor) -> int:
    return int((labels != others).sum())


def normalized(frame: Tensor, dtype: torch.dtype) -> Tensor:
    """As `fastscnn.data.transforms.normalize`, with constants that a CUDA graph can capture."""
    mean, deviation = (
        torch.tensor(values, device="cpu").view(1, 3, 1, 1).mul(255).to(frame.device) for values in (MEAN, STD)
    )
    return ((frame.permute(0, 3, 1, 2).float() - mean) / deviation).to(dtype)


def wanted(
    arguments: argparse.Namespace, network: FastSCNN, device: torch.device
) -> list[tuple[str, Callable[[], Callable[..., Any]]]]:
    """Name and maker of what is timed."""
    found = variants(network, device, arguments.peers, arguments.layers)
    return [(name, make) for name, make in found if not (arguments.few and left_out_of_few(name))]


def run_once(arguments: argparse.Namespace, network: FastSCNN, device: torch.device) -> None:
    """Run one variant at each size, so that its programs are compiled."""
    run = dict(wanted(arguments, network, device))[arguments.compile]()
    for name in arguments.sizes:
        run(random_frames(tuple(int(side) for side in name.split("x")), device)[0])


def measure_size(
    network: FastSCNN, size: tuple[int, ...], device: torch.device, arguments: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """Medians of every variant at one size, and what the GPU's time goes to in ours."""
    until = time.monotonic() + seconds
    frames = random_frames(size, device)
    ready: dict[str, Callable[..., Any]] = {}
    left_out: dict[str, str] = {}
    for name, make in wanted(arguments, network, device):
        if time.monotonic() > until:
            left_out[name] = "no time left to build it"
            continue
        try:
            run = make()
            for frame in frames:
                run(frame)
            ready[name] = run
        except Exception as error:  # a peer that cannot run must not cost the others' numbers
            left_out[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(f"{name} is left out: {left_out[name]}", flush=True)
        synchronize(device)
    latency: dict[str, list[float]] = {name: [] for name in ready}
    burst: dict[str, list[float]] = {name: [] for name in ready}
    for _, name in interleaved(ready, arguments.rounds):
        run = ready[name]
        run(frames[0])
        synchronize(device)
        for frame in frames:
            begun = time.perf_counter()
            run(frame)
            synchronize(device)
            latency[name].append((time.perf_counter() - begun) * 1e6)
        begun = time.perf_counter()
        for number in range(BURST):
            run(frames[number % FRAMES])
        synchronize(device)
        burst[name].append((time.perf_counter() - begun) * 1e6 / BURST)
    measured_variants = {
        name: {
            "us_waiting_for_each": statistics.median(latency[name]),
            "us_back_to_back": statistics.median(burst[name]),
            "us_min_max": [min(latency[name]), max(latency[name])],
            "frames_per_second": 1e6 / statistics.median(latency[name]),
            "frames_per_second_back_to_back": 1e6 / statistics.median(burst[name]),
        }
        for name in ready
    }
    profiles: dict[str, Any] = {}
    if device.type == "cuda":
        for name in (OURS, *CHOICES, "ours, torch fp16", "ours, compile fp16"):
            if name in ready:
                profiles[name] = profile(partial(ready[name], frames[0]))
    launches = timeline(partial(ready[ONE_AFTER_ANOTHER], frames[0])) if ONE_AFTER_ANOTHER in ready else []
    ready.clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    found: dict[str, Any] = {"variants": measured_variants, "left_out": left_out, "kernels": profiles}
    return found | {"launches": launches, "choice": choice_for(device, size[0] * size[1])._asdict()}


def report(size: str, result: dict[str, Any]) -> None:
    print(size, result.get("floor", ""))
    for name, values in sorted(result["variants"].items(), key=lambda item: item[1]["us_waiting_for_each"]):
        each, back = values["us_waiting_for_each"], values["us_back_to_back"]
        print(f"  {name:34} {each:10.1f} us waiting for each {back:10.1f} us back to back {1e6 / each:9.0f} frames/s")
    print("  " + ", ".join(f"{name} {us:.1f}" for name, us in result["launches"]))
    for name, rows in result["kernels"].items():
        print(f"  {name}")
        for row in rows:
            print(f"    {row['us']:8.1f} us {row['launches']:5.1f} x {row['kernel']}")


if __name__ == "__main__":
    main()
