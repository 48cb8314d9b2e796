"""Labels and probabilities from 1/8 logits: the fused step beside torch, on one thread, interleaved.

    python benchmarks/upsampling.py [ROUNDS] [CHECKPOINT]

19x128x256 logits to 1024x2048: random ones, and with a checkpoint those of a drawn street. Each way runs in a process
of its own (the allocator's setting cannot be taken back), in turn with the others. Writes results/upsampling.json.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from machine import measured

from fastscnn.inference.loader import load_trained
from fastscnn.kernels import upsample_labels, upsample_probabilities
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.memory import keep_freed_memory

RESULTS = Path(__file__).resolve().parents[1] / "results"
SIZE, CLASSES = (1024, 2048), 19
FRAMES = 5


def eager(logits, out):
    return F.interpolate(logits, SIZE, mode="bilinear", align_corners=False).argmax(1)


def eager_probabilities(logits, out):
    return F.interpolate(logits, SIZE, mode="bilinear", align_corners=False).softmax(1)


WAYS = {
    "labels, torch eager": eager,
    "labels, torch eager, memory kept": eager,
    "labels, torch compiled": torch.compile(eager),
    "labels, fused": lambda logits, out: upsample_labels(logits, SIZE),
    "probabilities, torch eager": eager_probabilities,
    "probabilities, torch eager, memory kept": eager_probabilities,
    "probabilities, torch compiled": torch.compile(eager_probabilities),
    "probabilities, fused, reused buffer": lambda logits, out: upsample_probabilities(logits, SIZE, out),
}


def make_logits(checkpoint):
    kinds = {"random": torch.randn(1, CLASSES, SIZE[0] // 8, SIZE[1] // 8, generator=torch.manual_seed(0)) * 3}
    if checkpoint:
        from fastscnn.data.transforms.normalize import normalize

        frame = torch.from_numpy(np.ascontiguousarray(draw_street([0, 0, 0], SIZE).image.transpose(2, 0, 1)))
        with torch.inference_mode():
            kinds["street"] = load_trained(checkpoint).network.coarse_logits(normalize(frame[None])).clone()
    return kinds


def serve(way, checkpoint):
    """Answer each line of stdin with the seconds of a few frames of each kind of logits."""
    torch.set_num_threads(1)
    if "kept" in way:
        keep_freed_memory()
    run, kinds = WAYS[way], make_logits(checkpoint)
    out = torch.zeros(1, CLASSES, *SIZE) if "reused" in way else None
    for logits in kinds.values():
        run(logits, out)
    print("ready", flush=True)
    for _ in sys.stdin:
        times = {kind: [] for kind in kinds}
        for kind, logits in kinds.items():
            for _ in range(FRAMES):
                started = time.perf_counter()
                run(logits, out)
                times[kind].append(time.perf_counter() - started)
        print(json.dumps(times), flush=True)


def differences(kinds):
    """Labels that are not torch's, and the largest difference of a probability."""
    found = {}
    for kind, logits in kinds.items():
        labels = upsample_labels(logits, SIZE)
        apart = (upsample_probabilities(logits, SIZE) - eager_probabilities(logits, None)).abs()
        found[kind] = {
            "labels_that_differ": int((labels != eager(logits, None)).sum()),
            "pixels": SIZE[0] * SIZE[1],
            "largest_difference_of_a_probability": float(apart.max()),
        }
    return found


def main(rounds, checkpoint):
    servers = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--serve", way, *([checkpoint] if checkpoint else [])]
        servers[way] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert servers[way].stdout.readline() == "ready\n"
    seconds = {}
    for _ in range(rounds):
        for way, server in servers.items():
            server.stdin.write("go\n")
            server.stdin.flush()
            for kind, times in json.loads(server.stdout.readline()).items():
                seconds.setdefault(kind, {}).setdefault(way, []).extend(times)
    for server in servers.values():
        server.stdin.close()
        server.wait()
    medians = {kind: {way: statistics.median(times) for way, times in ways.items()} for kind, ways in seconds.items()}
    result = {
        "what": f"{CLASSES}x{SIZE[0] // 8}x{SIZE[1] // 8} float32 logits to {SIZE[0]}x{SIZE[1]}, one thread",
        "ms_median": {kind: {way: s * 1e3 for way, s in ways.items()} for kind, ways in medians.items()},
        "ms_min_max": {
            kind: {way: [min(times) * 1e3, max(times) * 1e3] for way, times in ways.items()}
            for kind, ways in seconds.items()
        },
        "speedup_over_eager": {
            kind: {way: ways[f"{way.partition(',')[0]}, torch eager"] / s for way, s in ways.items()}
            for kind, ways in medians.items()
        },
        "speedup_over_eager_memory_kept": {
            kind: {way: ways[f"{way.partition(',')[0]}, torch eager, memory kept"] / s for way, s in ways.items()}
            for kind, ways in medians.items()
        },
        "exactness": differences(make_logits(checkpoint)),
        "frames_of_each": rounds * FRAMES,
        **measured(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "upsampling.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("what", "ms_median", "speedup_over_eager", "exactness")}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 6, sys.argv[2] if len(sys.argv) > 2 else None)
