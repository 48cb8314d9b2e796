"""Time on a GPU: of a captured function, of each kernel, and of a copy."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.models.folding import folded


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def captured(function: Callable[[], Any], calls: int) -> torch.cuda.CUDAGraph:
    """So many calls of a function as a graph, after a few by themselves."""
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
    return graph


def replay_time(graph: torch.cuda.CUDAGraph) -> float:
    """Microseconds of a replay."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end) * 1000)


def graph_time(function: Callable[[], Any], calls: int = 20, rounds: int = 15) -> float:
    """Microseconds of a function's work on the GPU: captured `calls` times into a graph, median over replays."""
    graph = captured(function, calls)
    return statistics.median(replay_time(graph) / calls for _ in range(rounds))


def profile(run: Callable[[], Any], calls: int = 10, most: int = 15) -> list[dict[str, Any]]:
    """The kernels that take most of the GPU's time, microseconds a call, and the sum of all."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    rows = [
        {"kernel": event.key[:120], "launches": event.count / calls, "us": event.self_device_time_total / calls}
        for event in kernels
    ]
    return [
        *rows[:most],
        {"kernel": "all", "launches": sum(r["launches"] for r in rows), "us": sum(r["us"] for r in rows)},
    ]


def timeline(run: Callable[[], Any], calls: int = 9) -> list[tuple[str, float]]:
    """Every kernel of a call in its order, with the median of its microseconds; empty where calls differ."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
    found = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    found.sort(key=lambda event: event.time_range.start)
    each, rest = divmod(len(found), calls)
    if rest:
        return []
    return [
        (found[place].name[:40], statistics.median(event.time_range.elapsed_us() for event in found[place::each]))
        for place in range(each)
    ]


def copy_bandwidth() -> float:
    """Bytes read and written a second by a large copy on the GPU."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / (graph_time(lambda: target.copy_(source), calls=1) * 1e-6)


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
