"""What is printed at the start and at the end of a training run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console

from fastscnn.data.datamodules.build import TrainingData, title
from fastscnn.data.datamodules.imagenet import ImageNetData
from fastscnn.models.external import short_name
from fastscnn.models.flops import network_cost
from fastscnn.runs.record import BEST, LAST
from fastscnn.training.profile import Profile, StepProfiler
from fastscnn.training.task import Task

PAPER_SIZE = (1024, 2048)
PROFILE = "profile.json"


_UNITS = {"folder": "images"}
"""What the frames of a source are called, where that is not its name."""


def print_start(folder: Path, module: Task, data: TrainingData) -> dict[str, Any]:
    """Print the run's folder, the network's size and the data; returns them as loggers show them."""
    size = data.crop_size if isinstance(data, ImageNetData) else PAPER_SIZE
    costs = network_cost(module.network, size, in_channels=module.config["model"]["in_channels"])
    parameters = sum(cost.parameters for cost in costs)
    norms = sum(cost.norm_parameters for cost in costs)
    macs = sum(cost.macs for cost in costs)
    counts = {split: data.source_counts(split) for split in ("train", *(["val"] if data.validates else []))}
    frames = "; ".join(
        f"{split} " + " + ".join(f"{count:,} {_UNITS.get(source, source)}" for source, count in by_source.items())
        for split, by_source in counts.items()
    )
    _print(
        f"[bold]{folder}[/]\n"
        f"{short_name(module.config['model'])}: {parameters:,} parameters ({parameters - norms:,} without BatchNorm), "
        f"{macs / 1e9:.2f} G multiply-adds at {size[0]}x{size[1]}\n"
        f"{title(data)}, {data.classes.num_classes} classes: {frames}; crop "
        f"{data.crop_size[0]}x{data.crop_size[1]}, batch {data.batch_size}"
    )
    if not data.validates:
        _print(f"val is trained on (data.train_splits): nothing is validated, and {LAST.name} is {BEST.name} as well")
    if isinstance(data, ImageNetData) and data.evaluates_on_train:
        _print(f"no val/ in {data.root}: evaluated on the training images")
    return {
        "parameters": parameters,
        "multiply_adds": macs,
        "frames": {split: sum(by_source.values()) for split, by_source in counts.items()},
    }


def print_scores(trainer: pl.Trainer, module: Task, data: TrainingData, checkpoint: Path, *, test: bool) -> None:
    """Print every class: of a checkpoint on the test split, or else of the best validation."""
    scores = module.scores["test"] if test else module.best_scores
    if not trainer.is_global_zero or scores is None:  # no best: its file was lost, and no validation came after
        return
    split = "test" if test else "val"
    evaluated = "training images" if isinstance(data, ImageNetData) and data.evaluates_on_train else split
    console = Console()
    console.print(f"IoU in percent: {title(data)} {evaluated}, {checkpoint.name}", highlight=False)
    console.print(scores.table())


def print_profile(trainer: pl.Trainer, profiler: StepProfiler, plain: Mapping[str, Any], folder: Path) -> None:
    """Print where the time of a step went, and write it to `profile.json`."""
    if not trainer.is_global_zero:
        return
    profile = Profile.of(profiler.steps(), plain["data"]["batch_size"] // trainer.accumulate_grad_batches)
    sentence = profile.sentence(plain, gpu=trainer.strategy.root_device.type == "cuda")
    profile.save(folder / PROFILE, sentence)
    Console().print(profile.table())
    _print(sentence)


def describe_device(trainer: pl.Trainer) -> str:
    """The devices that a run is trained on, for its record."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{trainer.world_size} x {name}, {torch.get_num_threads()} threads, {trainer.precision}"


def _print(text: str) -> None:
    Console().print(text, highlight=False, soft_wrap=True)
