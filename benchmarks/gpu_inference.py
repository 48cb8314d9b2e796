"""Frames to labels on a GPU: ours, eager and compiled torch, and the paper's peers, in one interleaved run.

    python benchmarks/gpu_inference.py [--checkpoint FILE] [--seconds 540] [--sizes 1024x2048 ...] [--peers NAME ...]

Each variant takes one uint8 frame that lies in the GPU's memory and leaves its labels there. It is built and warmed up
first (skipped where the time is nearly up), then all take turns. Results are checked before they are timed, and
written after each size: results/gpu_inference.json. With --dry-run the script tries itself on the CPU.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import measured
from torch import Tensor, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.kernels import reference, upsample_labels, upsample_probabilities
from fastscnn.kernels.cuda import labels as cuda
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.folding import folded
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_inference.json"
SIZES = ("1024x2048", "512x1024", "256x512")
CHECKED = ((1024, 2048), (512, 1024), (360, 480), (805, 1619))
FRAMES, BURST = 4, 20
LABEL_TILES = ((8, 128, 8), (8, 128, 4), (16, 128, 8), (8, 64, 4), (4, 256, 8), (16, 64, 4))
TILES = ((16, 32, 1), (8, 32, 1), (32, 32, 1), (16, 16, 1), (16, 64, 2), (16, 128, 4))


def main() -> None:
    arguments = parsed()
    started = time.monotonic()
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    network = load(arguments.checkpoint)
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
        result["correctness"] = correctness(network, device, ((40, 72),) if arguments.dry_run else CHECKED)
        save()
        if device.type == "cuda":
            result["bytes_per_second_copied"] = copy_bandwidth()
            result["fused_step"] = fused_step(network.num_classes)
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
    print(f"Written to {arguments.output}.")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Frames to labels on a GPU, side by side.")
    parser.add_argument("--checkpoint", type=Path, help="a trained Fast-SCNN; random weights without")
    parser.add_argument("--sizes", nargs="+", default=None, help="HEIGHTxWIDTH")
    parser.add_argument("--peers", nargs="*", default=None, help="names in fastscnn.models.peers; all without")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=540, help="build nothing more when these are over")
    parser.add_argument("--output", type=Path, default=RESULTS)
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


def engines(device: torch.device) -> list[tuple[str, dict[str, Any]]]:
    """What `GraphRunner` is measured with; the most interesting first."""
    if device.type == "cpu":
        return [("ours, torch fp32", {"engine": "torch", "dtype": torch.float32, "device": device})]
    half = [("triton", torch.float16), ("torch", torch.float16), ("triton", torch.bfloat16), ("compile", torch.float16)]
    names = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    return [(f"ours, {engine} {names[dtype]}", {"engine": engine, "dtype": dtype}) for engine, dtype in half]


def correctness(network: FastSCNN, device: torch.device, sizes: tuple[tuple[int, int], ...]) -> dict[str, Any]:
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
        for name, options in engines(device):
            if "compile" not in name:
                entry[f"{name} differ from fp32"] = differing(GraphRunner(network, **options)(frame), labels)
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
    network: FastSCNN, device: torch.device, peers: list[str] | None
) -> list[tuple[str, Callable[[], Callable[..., Any]]]]:
    """Name and maker of everything that is timed, in the order of what must not be missed."""
    found = [(name, partial(GraphRunner, network, **options)) for name, options in engines(device)]
    last = found.pop() if device.type == "cuda" else None  # the compiled one takes minutes
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


def measure_size(
    network: FastSCNN, size: tuple[int, ...], device: torch.device, arguments: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """Medians of every variant at one size, and what the GPU's time goes to in ours."""
    until = time.monotonic() + seconds
    frames = random_frames(size, device)
    ready: dict[str, Callable[..., Any]] = {}
    left_out: dict[str, str] = {}
    for name, make in variants(network, device, arguments.peers):
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
    for _ in range(arguments.rounds):
        for name, run in ready.items():
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
    profiles = {}
    if device.type == "cuda":
        for name in ("ours, triton fp16", "ours, torch fp16", "ours, compile fp16"):
            if name in ready:
                profiles[name] = profile(ready[name], frames[0])
    ready.clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {"variants": measured_variants, "left_out": left_out, "kernels": profiles}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def profile(run: Callable[..., Any], frame: Tensor, calls: int = 10) -> list[dict[str, Any]]:
    """The 15 kernels that take most of the GPU's time, microseconds a frame, and the sum of all."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(calls):
            run(frame)
        torch.cuda.synchronize()
    kernels = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    rows = [
        {"kernel": event.key[:120], "launches": event.count / calls, "us": event.self_device_time_total / calls}
        for event in kernels
    ]
    return [
        *rows[:15],
        {"kernel": "all", "launches": sum(r["launches"] for r in rows), "us": sum(r["us"] for r in rows)},
    ]


def copy_bandwidth() -> float:
    """Bytes read and written a second by a large copy on the GPU."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / (graph_time(lambda: target.copy_(source), calls=1) * 1e-6)


def graph_time(function: Callable[[], Any], calls: int = 20, rounds: int = 15) -> float:
    """Microseconds of a function's work on the GPU: captured `calls` times into a graph, median over replays."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            function()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / calls)
    return statistics.median(times)


def fused_step(classes: int) -> dict[str, Any]:
    """Microseconds of labels and of probabilities from logits, 128x256 to 1024x2048; and with each shape of tile."""
    size = (1024, 2048)
    coarse = torch.randn(1, classes, 16, 32, device="cuda") * 4
    logits = nn.functional.interpolate(coarse, (128, 256), mode="bicubic").contiguous(memory_format=torch.channels_last)
    out = torch.empty(1, classes, *size, device="cuda")
    found: dict[str, Any] = {"classes": classes, "logits": "float32, channels_last"}
    noise = torch.randn_like(logits)
    found["labels"] = {
        "ours": graph_time(lambda: upsample_labels(logits, size)),
        "ours, random logits": graph_time(lambda: upsample_labels(noise, size)),
        "eager": graph_time(lambda: reference.upsample_labels(logits, size), calls=2),
        "floor_bytes": logits.numel() * 4 + size[0] * size[1],
    }
    found["probabilities"] = {
        "ours": graph_time(lambda: upsample_probabilities(logits, size, out), calls=2),
        "eager": graph_time(lambda: reference.upsample_probabilities(logits, size), calls=2),
        "floor_bytes": logits.numel() * 4 + out.numel() * 4,
    }
    found["label_tiles"], found["probability_tiles"] = {}, {}
    chosen = cuda.LABEL_TILE, cuda.TILE
    try:
        for tile in LABEL_TILES:
            cuda.LABEL_TILE = tile
            found["label_tiles"][str(tile)] = graph_time(lambda: upsample_labels(logits, size))
        for tile in TILES:
            cuda.TILE = tile
            found["probability_tiles"][str(tile)] = graph_time(
                lambda: upsample_probabilities(logits, size, out), calls=2
            )
    finally:
        cuda.LABEL_TILE, cuda.TILE = chosen
    print(found, flush=True)
    return found


def layer_bytes(network: nn.Module, size: tuple[int, ...]) -> int:
    """Bytes of each convolution's input and output in half precision, moved once, and of the weights."""
    shadow = folded(network).to("meta")
    total = 2 * sum(parameter.numel() for parameter in shadow.parameters())

    def count(convolution: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += 2 * (inputs[0].numel() + output.numel())

    for module in shadow.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    shadow.coarse_logits(torch.empty(1, 3, *size, device="meta"))
    return total


def add_floor(result: dict[str, Any], network: nn.Module, size: tuple[int, ...], bytes_per_second: float) -> None:
    """How long one pass over each layer's data takes at the GPU's own copying speed, and how far from it we are."""
    moved = layer_bytes(network, size)
    floor = moved / bytes_per_second * 1e6
    result["floor"] = {"bytes": moved, "us": floor}
    for values in result["variants"].values():
        values["times_the_floor"] = values["us_back_to_back"] / floor


def report(size: str, result: dict[str, Any]) -> None:
    print(size, result.get("floor", ""))
    for name, values in sorted(result["variants"].items(), key=lambda item: item[1]["us_waiting_for_each"]):
        each, back = values["us_waiting_for_each"], values["us_back_to_back"]
        print(f"  {name:34} {each:10.1f} us waiting for each {back:10.1f} us back to back {1e6 / each:9.0f} frames/s")
    for name, rows in result["kernels"].items():
        print(f"  {name}")
        for row in rows:
            print(f"    {row['us']:8.1f} us {row['launches']:5.1f} x {row['kernel']}")


if __name__ == "__main__":
    main()
