"""Where a training step on a CPU goes, and what the fused loss and the kept memory save of it; interleaved rounds.

    python benchmarks/cpu_step.py [ROUNDS]

Each variant runs in a process of its own (the allocator's setting cannot be taken back), a few steps at a time, in
turn with the others. Writes results/cpu_step.json.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import measured

from fastscnn.kernels import reference, upsample_cross_entropy
from fastscnn.memory import keep_freed_memory
from fastscnn.network.blocks import AuxiliaryHead
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.training.optim import sgd

RESULTS = Path(__file__).resolve().parents[1] / "results"
SIZE, BATCH, CLASSES = (256, 512), 6, 19
VARIANTS = ("eager", "eager, memory kept", "fused", "fused, memory kept")
STEPS = 4


def step(network, heads, optimizer, images, labels, loss_function):
    features = network.features(images)
    loss = loss_function(features.logits, labels)
    for head, feature in zip(heads, (features.detail, features.context), strict=True):
        loss = loss + 0.4 * loss_function(head(feature), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def serve(variant: str) -> None:
    """Answer each line of stdin with the seconds of one step."""
    if "kept" in variant:
        keep_freed_memory()
    loss_function = upsample_cross_entropy if variant.startswith("fused") else reference.upsample_cross_entropy
    torch.manual_seed(0)
    network = FastSCNN(CLASSES).train().to(memory_format=torch.channels_last)
    heads = torch.nn.ModuleList([AuxiliaryHead(64, CLASSES), AuxiliaryHead(128, CLASSES)]).train()
    optimizer = sgd(torch.nn.ModuleList([network, heads]))
    images = torch.randn(BATCH, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH, *SIZE), dtype=torch.uint8)
    for _ in range(2):
        step(network, heads, optimizer, images, labels, loss_function)
    print("ready", flush=True)
    for _ in sys.stdin:
        times = []
        for _ in range(STEPS):
            started = time.perf_counter()
            step(network, heads, optimizer, images, labels, loss_function)
            times.append(time.perf_counter() - started)
        print(json.dumps(times), flush=True)


def main(rounds: int) -> None:
    servers = {}
    for variant in VARIANTS:
        servers[variant] = subprocess.Popen(
            [sys.executable, __file__, "--serve", variant], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert servers[variant].stdout.readline() == "ready\n"
    seconds = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, server in servers.items():
            server.stdin.write("go\n")
            server.stdin.flush()
            seconds[variant] += json.loads(server.stdout.readline())
    for server in servers.values():
        server.stdin.close()
        server.wait()
    medians = {variant: statistics.median(times) for variant, times in seconds.items()}
    result = {
        "what": f"one training step, batch {BATCH} of {SIZE[0]}x{SIZE[1]}, {CLASSES} classes, three heads, fp32",
        "threads": torch.get_num_threads(),
        "seconds_median": medians,
        "seconds_min_max": {variant: [min(times), max(times)] for variant, times in seconds.items()},
        "speedup_over_eager": {variant: medians["eager"] / median for variant, median in medians.items()},
        "steps_of_each": rounds * STEPS,
        **measured(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cpu_step.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("what", "seconds_median", "speedup_over_eager")}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
