"""Labels and probabilities from 1/8 logits: the fused step beside torch, on one thread, interleaved.

    python benchmarks/upsampling.py [ROUNDS] [CHECKPOINT]

19x128x256 logits to 1024x2048: random ones, and with a checkpoint those of a drawn street. Each variant runs in
a process of its own (the allocator's setting cannot be taken back), in turn with the others. Writes
results/upsampling.json.
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from harness import RESULTS, child, medians, ranges, save, serve, served_rounds, timed

from fastscnn.inference.loader import load_trained
from fastscnn.kernels import upsample_labels, upsample_probabilities
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.memory import keep_freed_memory

SIZE, CLASSES = (1024, 2048), 19
FRAMES = 5


def eager(logits, out):
    return F.interpolate(logits, SIZE, mode="bilinear", align_corners=False).argmax(1)


def eager_probabilities(logits, out):
    return F.interpolate(logits, SIZE, mode="bilinear", align_corners=False).softmax(1)


VARIANTS = {
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


def frames(variant, checkpoint):
    """Measure a few frames of each kind of logits whenever it is asked."""
    torch.set_num_threads(1)
    if "kept" in variant:
        keep_freed_memory()
    run, kinds = VARIANTS[variant], make_logits(checkpoint)
    out = torch.zeros(1, CLASSES, *SIZE) if "reused" in variant else None

    def measure(repeats=FRAMES):
        return {kind: timed(lambda logits=logits: run(logits, out), repeats) for kind, logits in kinds.items()}

    measure(1)
    serve(measure)


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
    children = {
        variant: child(__file__, "--frames", variant, *([checkpoint] if checkpoint else [])) for variant in VARIANTS
    }
    seconds = {}
    for variant, answer in served_rounds(children, rounds):
        for kind, times in answer.items():
            seconds.setdefault(kind, {}).setdefault(variant, []).extend(times)

    def speedups(over):
        return {
            kind: {
                variant: typical[f"{variant.partition(',')[0]}, {over}"] / median for variant, median in typical.items()
            }
            for kind, typical in ((kind, medians(times)) for kind, times in seconds.items())
        }

    result = {
        "what": f"{CLASSES}x{SIZE[0] // 8}x{SIZE[1] // 8} float32 logits to {SIZE[0]}x{SIZE[1]}, one thread",
        "ms_median": {kind: medians(times, 1e3) for kind, times in seconds.items()},
        "ms_min_max": {kind: ranges(times, 1e3) for kind, times in seconds.items()},
        "speedup_over_eager": speedups("torch eager"),
        "speedup_over_eager_memory_kept": speedups("torch eager, memory kept"),
        "exactness": differences(make_logits(checkpoint)),
        "frames_of_each": rounds * FRAMES,
    }
    save(RESULTS / "upsampling.json", result)
    print(json.dumps({key: result[key] for key in ("what", "ms_median", "speedup_over_eager", "exactness")}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--frames"]:
        frames(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 6, sys.argv[2] if len(sys.argv) > 2 else None)
