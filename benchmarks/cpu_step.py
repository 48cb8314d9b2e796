"""A training step on a CPU: what a user of torch would write, and what train.py runs; interleaved rounds.

    python benchmarks/cpu_step.py [--rounds 8] [--threads 1 2] [--compile] [--bf16] [--output results/cpu_step.json]

A step is normalisation, the network with three heads of 19 classes, the loss, backward and SGD. Each variant runs in a
process of its own (the allocator's setting cannot be taken back), a few steps at a time, in turn with the others. The
peak of memory is that of two steps, over what the process held before them (Linux). `--compile` takes minutes more;
`--bf16` is for a processor that has bfloat16.
"""

import argparse
import contextlib
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import RESULTS, child, medians, ranges, save, serve, served_rounds, timed
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from peak import peak_of

from fastscnn.cli.launch import CONF
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.optim import build_optimizer, decay_groups
from fastscnn.training.recompute import choose_keep_memory
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.memory import keep_freed_memory

CASES = {"2 of 512x1024": (2, 512, 1024), "6 of 256x512": (6, 256, 512)}
LARGE = (2, 1024, 2048)
PLAIN = "optimizer.fused=false trainer.recompute=false"
VARIANTS = {
    "eager": "",
    "eager, channels_last": "",
    "eager, memory kept": "",
    "fused loss": f"{PLAIN} trainer.channels_last=false trainer.keep_memory=false",
    "fused loss, memory kept": f"{PLAIN} trainer.channels_last=false trainer.keep_memory=true",
    "fused loss, memory kept, channels_last": f"{PLAIN} trainer.keep_memory=true",
    "ours": "",
}
"""Of ours, how their settings differ from the defaults of train.py."""
MEASURED_MEMORY = ("eager", "eager, memory kept", "fused loss", "fused loss, memory kept, channels_last", "ours")
STEPS = 3


class Eager:
    """Fast-SCNN as it is trained everywhere: full-size logits, torch's own loss and memory."""

    def __init__(self, channels_last: bool) -> None:
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = FastSCNN(19).train().to(memory_format=self.layout)
        self.heads = torch.nn.ModuleList([AuxiliaryHead(64, 19), AuxiliaryHead(128, 19)]).train()
        self.heads.to(memory_format=self.layout)
        groups = decay_groups(torch.nn.ModuleList([self.network, self.heads]), 4e-5)
        self.optimizer = torch.optim.SGD(groups, lr=0.045, momentum=0.9)

    def step(self, images, labels):
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        features = self.network.features(((images / 255 - mean) / std).contiguous(memory_format=self.layout))
        loss = self.loss(features.logits, labels)
        for head, feature in zip(self.heads, features.inner, strict=True):
            loss = loss + 0.4 * self.loss(head(feature), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @staticmethod
    def loss(logits, labels):
        full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
        return F.cross_entropy(full, labels, ignore_index=255)


class Ours:
    """What `python src/train.py` makes of a batch."""

    def __init__(self, overrides, size, *, bf16=False, compiled=False) -> None:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_container(compose("train", ["data=fine", *overrides]), resolve=True)
        if choose_keep_memory(config["trainer"]["keep_memory"], math.prod(size)):
            keep_freed_memory()
        self.module = Segmentation(config, CITYSCAPES).train()
        self.optimizer = build_optimizer(self.module, config["optimizer"], torch.device("cpu"))
        self.autocast = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
        if compiled:
            self.module.compile_network()

    def step(self, images, labels):
        with self.autocast:
            loss = self.module.objective(images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def build(variant, size):
    torch.manual_seed(0)
    if variant.startswith("eager"):
        if "memory kept" in variant:
            keep_freed_memory()
        return Eager("channels_last" in variant)
    return Ours(VARIANTS.get(variant, "").split(), size, bf16="bf16" in variant, compiled="compiled" in variant)


def batch(variant, frames, height, width):
    """Eager: planes and int64, as most loaders give them. Ours: pixels and uint8, as our loader does."""
    images = torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(0, 19, (frames, height, width), dtype=torch.uint8)
    return (images.contiguous(), labels.long()) if variant.startswith("eager") else (images, labels)


def steps(variant, size):
    """Measure a few steps whenever it is asked."""
    model, data = build(variant, size), batch(variant, *size)
    timed(lambda: model.step(*data), 2)
    serve(lambda: timed(lambda: model.step(*data), STEPS))


def memory(variant, size):
    """Print the MiB that two steps need beyond what was held before them; a small step brings the libraries in."""
    model = build(variant, size)
    model.step(*batch(variant, 2, 64, 128))
    data = batch(variant, *size)

    print(peak_of(lambda: timed(lambda: model.step(*data), 2)))


def start(mode, variant, size, threads):
    return child(__file__, "--child", mode, variant, *size, "--threads", threads)


def measure(variants, size, threads, rounds):
    children = {variant: start("steps", variant, size, threads) for variant in variants}
    seconds = {variant: [] for variant in variants}
    for variant, times in served_rounds(children, rounds):
        seconds[variant] += times
    typical = medians(seconds)
    return {
        "seconds_median": typical,
        "seconds_min_max": ranges(seconds),
        "speedup_over_eager": {variant: typical["eager"] / median for variant, median in typical.items()},
    }


def main(arguments):
    variants = [*VARIANTS]
    if arguments.bf16:
        variants.append("ours, bf16")
    if arguments.compile:
        variants += ["ours, compiled", *(["ours, bf16, compiled"] if arguments.bf16 else [])]
    cases = {} if arguments.memory_only else CASES
    measured_steps = {
        f"{case}, {threads} thread{'s' * (threads > 1)}": measure(variants, size, threads, arguments.rounds)
        for case, size in cases.items()
        for threads in arguments.threads
    }
    peaks = {
        variant: float(start("memory", variant, LARGE, max(arguments.threads)).communicate()[0])
        for variant in MEASURED_MEMORY
    }
    result = {
        "what": "one training step: normalisation, network, three heads of 19 classes, loss, backward, SGD; fp32",
        "steps": measured_steps,
        "steps_of_each": arguments.rounds * STEPS,
        "peak_memory": {
            "what": f"MiB of two steps, batch {LARGE[0]} of {LARGE[1]}x{LARGE[2]}",
            "mib": peaks,
            "share_of_eager": {variant: peak / peaks["eager"] for variant, peak in peaks.items()},
        },
    }
    save(arguments.output, result)
    speedups = {case: found["speedup_over_eager"] for case, found in measured_steps.items()}
    print(json.dumps({"speedup_over_eager": speedups, "peak_memory": result["peak_memory"]}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "cpu_step.json")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        torch.set_num_threads(parsed.threads[0])
        mode, variant, *size = parsed.child
        {"steps": steps, "memory": memory}[mode](variant, [int(side) for side in size])
    else:
        main(parsed)
