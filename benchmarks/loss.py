"""Loss and gradient of one head at 1024x2048: the fused step beside torch, on one thread, interleaved.

    python benchmarks/loss.py [--rounds 6] [--checkpoint FILE] [--output results/loss.json]

19x128x256 logits (the x8 heads) and 19x32x64 (the x32 head) and labels of 1024x2048: random ones, and with a checkpoint
of the streets those of a drawn street. A step is the loss and the gradient of the logits. Each variant has a process
of its own (the allocator's setting cannot be taken back), in turn with the others. The extra memory is the peak of a
step over what the process held before it, measured apart from the times (Linux).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from harness import RESULTS, child, medians, ranges, save, serve, served_rounds, timed
from peak import peak_of

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.loader import load_trained
from fastscnn.kernels import HardPixels, reference, upsample_cross_entropy
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.memory import keep_freed_memory

SIZE, CLASSES = (1024, 2048), 19
STEPS = 2


def eager(logits, labels):
    full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, labels, ignore_index=255)


def eager_ohem(logits, labels):
    return reference.upsample_cross_entropy(logits, labels, hard=HardPixels())


VARIANTS = {
    "torch eager": eager,
    "torch eager, memory kept": eager,
    "torch compiled": torch.compile(eager),
    "fused": upsample_cross_entropy,
    "hard pixels, torch eager": eager_ohem,
    "hard pixels, fused": lambda logits, labels: upsample_cross_entropy(logits, labels, hard=HardPixels()),
}


def make_cases(checkpoint):
    """Logits float32 [1, C, h, w] and labels uint8 [1, H, W] of each case."""
    generator = torch.manual_seed(0)
    labels = torch.randint(0, CLASSES, (1, *SIZE), dtype=torch.uint8, generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    cases = {
        f"random, x{scale}": (
            3 * torch.randn(1, CLASSES, SIZE[0] // scale, SIZE[1] // scale, generator=generator),
            labels,
        )
        for scale in (8, 32)
    }
    if checkpoint:
        street = draw_street([0, 0, 0], SIZE)
        frame = torch.from_numpy(np.ascontiguousarray(street.image.transpose(2, 0, 1)))
        with torch.no_grad():
            logits = load_trained(checkpoint).network.coarse_logits(normalize(frame[None])).clone()
        cases["street, x8"] = logits, torch.from_numpy(CITYSCAPES.encode(street.label_ids))[None]
    return cases


def step(run, logits, labels):
    logits = logits.detach().requires_grad_()
    loss = run(logits, labels)
    loss.backward()
    return loss.detach(), logits.grad


def prepared(variant, checkpoint):
    """A variant and its cases; torch gets int64 labels, as from most loaders."""
    torch.set_num_threads(1)
    if "kept" in variant:
        keep_freed_memory()
    cases = make_cases(checkpoint)
    return VARIANTS[variant], cases if "fused" in variant else {
        kind: (one, labels.long()) for kind, (one, labels) in cases.items()
    }


def steps(variant, checkpoint):
    """Measure a few steps of each case whenever it is asked."""
    run, cases = prepared(variant, checkpoint)

    def measure(repeats=STEPS):
        return {kind: timed(lambda case=case: step(run, *case), repeats) for kind, case in cases.items()}

    measure(1)
    serve(measure)


def memory(variant, checkpoint):
    """Print the MiB that a step of each case needs; one small step brings the libraries in."""
    run, cases = prepared(variant, checkpoint)
    for kind, (logits, labels) in cases.items():
        step(run, logits[:, :, :8, :8], labels[:, :64, :64])
        cases[kind] = peak_of(lambda logits=logits, labels=labels: step(run, logits, labels))
    print(json.dumps(cases))


def start(mode, variant, checkpoint):
    return child(__file__, "--child", mode, variant, *(["--checkpoint", checkpoint] if checkpoint else []))


def exactness(cases):
    """Relative differences from float64 of the loss and of the gradient, by its largest value; ours and torch's."""
    found = {}
    for kind, (logits, labels) in cases.items():
        exact_loss, exact = step(eager, logits.double(), labels.long())
        found[kind] = {}
        for variant in ("torch eager", "fused"):
            loss, gradient = step(VARIANTS[variant], logits, labels if variant == "fused" else labels.long())
            found[kind][variant] = {
                "loss": float((loss - exact_loss).abs() / exact_loss),
                "gradient": float((gradient - exact).abs().max() / exact.abs().max()),
            }
    return found


def main(rounds, checkpoint, output):
    seconds, peaks = {}, {}
    for variant, answer in served_rounds(
        {variant: start("steps", variant, checkpoint) for variant in VARIANTS}, rounds
    ):
        for kind, times in answer.items():
            seconds.setdefault(kind, {}).setdefault(variant, []).extend(times)
    for variant in VARIANTS:
        if "compiled" not in variant and "kept" not in variant:
            for kind, peak in json.loads(start("memory", variant, checkpoint).communicate()[0]).items():
                peaks.setdefault(kind, {})[variant] = peak

    def eager_of(variant):
        return variant.replace("fused", "torch eager").replace("compiled", "eager").replace(", memory kept", "")

    result = {
        "what": f"loss and gradient of {CLASSES} classes at {SIZE[0]}x{SIZE[1]}, one head, float32, one thread",
        "ms_median": {kind: medians(times, 1e3) for kind, times in seconds.items()},
        "ms_min_max": {kind: ranges(times, 1e3) for kind, times in seconds.items()},
        "speedup_over_eager": {
            kind: {variant: typical[eager_of(variant)] / median for variant, median in typical.items()}
            for kind, typical in ((kind, medians(times)) for kind, times in seconds.items())
        },
        "extra_memory_mib": peaks,
        "difference_from_float64": exactness(make_cases(checkpoint)),
        "steps_of_each": rounds * STEPS,
    }
    save(output, result)
    printed = ("what", "ms_median", "speedup_over_eager", "extra_memory_mib", "difference_from_float64")
    print(json.dumps({key: result[key] for key in printed}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--checkpoint")
    parser.add_argument("--output", type=Path, default=RESULTS / "loss.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        mode, variant = arguments.child
        {"steps": steps, "memory": memory}[mode](variant, arguments.checkpoint)
    else:
        main(arguments.rounds, arguments.checkpoint, arguments.output)
