"""Time on a GPU: of a captured function, of each kernel, and of a copy."""

import statistics
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


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


def copy_bandwidth() -> float:
    """Bytes read and written a second by a large copy on the GPU."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / (graph_time(lambda: target.copy_(source), calls=1) * 1e-6)
