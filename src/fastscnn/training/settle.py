"""What `auto` stands for in a training.

The crop by the images, the batch by the memory, the epochs by the frames, the learning rate by the first weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from fastscnn.data.datamodules.adapted import NAME as EXTERNAL
from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datamodules.imagenet import NAME as IMAGENET
from fastscnn.data.datamodules.segmentation import FULL, SegmentationData
from fastscnn.data.datasets.classes import ClassTable
from fastscnn.runs.run import is_first_process
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.machine import memory_bytes
from fastscnn.utils.targets import TARGET
from fastscnn.utils.text import plural
from fastscnn.utils.values import check_size, refused

AUTO = "auto"
CROP, BATCH, EPOCHS = "data.crop_size", "data.batch_size", "trainer.max_epochs"
RATE = "optimizer.lr"
NAMES = (CROP, BATCH, EPOCHS)
OTHERWISE = {
    CROP: "data.crop_size=[H,W] sets another",
    BATCH: "data.batch_size=N sets another",
    EPOCHS: "trainer.max_epochs=N sets another",
    RATE: "optimizer.lr=X sets another",
}
LOOKED_AT = 200
"""Images whose size is read, spread over all of them."""
MOST_PIXELS = 1024 * 2048
"""Of a crop: a frame of Cityscapes."""
PAPER_BATCH = 12
"""The batch that the learning rate belongs to."""
SHARE = 0.5
"""Of the memory that what autograd keeps may take; a step's peak is an eighth above it, and frames need memory too."""
PAPER_RATE, FINE_TUNING_RATE = 0.045, 0.003
"""Learning rates of SGD: for random weights, and for trained ones, which the higher rate would first destroy."""
SHOWN, FEWEST, MOST = 60_000, 50, 500
"""Frames that a run shows in all, as often as CamVid's 160 epochs do, and the bounds of its epochs."""


def settle(plain: dict[str, Any], data: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Replace `auto` in a training's settings, and print what it stands for with the setting that changes it.

    Args:
        plain: The settings; those of `NAMES` become numbers where they are `auto`. `trainer.accelerator` and
            `trainer.devices` are settled already.
        data: The `data` settings, as the frames are listed by them.
        recorded: What the settings stand for in the run that is resumed; they are not chosen anew.

    Raises:
        RequestError: The frames cannot be listed, or an image cannot be read.
    """
    asked = [name for name in NAMES if _value(plain, name) == AUTO]
    if asked and data["dataset"] in (IMAGENET, EXTERNAL):
        raise refused(asked[0], AUTO, f"a number where data={data['dataset']}")
    for name in asked:
        if name in recorded:
            _set(plain, name, recorded[name])
    if missing := [name for name in asked if name not in recorded]:
        for name, why in _choose(plain, data, missing):
            if is_first_process():
                print(f"{name}={_text(_value(plain, name))}: {why}; {OTHERWISE[name]}", flush=True)


def settle_rate(plain: dict[str, Any], recorded: Mapping[str, Any]) -> None:
    """Replace `auto` in the learning rate of SGD; other arguments are those of `settle`."""
    optimizer = plain["optimizer"]
    if optimizer.get("lr") != AUTO or optimizer.get(TARGET) != "torch.optim.SGD":
        return
    if RATE in recorded:
        optimizer["lr"] = recorded[RATE]
        return
    trained = bool((plain.get("init") or {}).get("checkpoint"))
    optimizer["lr"] = FINE_TUNING_RATE if trained else PAPER_RATE
    if is_first_process():
        why = "for weights that are trained already (init.checkpoint)" if trained else "the paper's"
        print(f"{RATE}={optimizer['lr']}: {why}; {OTHERWISE[RATE]}", flush=True)


def _choose(plain: dict[str, Any], data: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Set these settings, in the order of `NAMES`; gives each with the reason for its value."""
    files = {**data, "crop_size": "full", "batch_size": 2, "num_workers": 0, "store": "off"}
    probe = build_data(files, {"name": "none"})
    if probe.streets:
        probe.prepare_data()
    frames = len(probe.frames("train"))
    if CROP in names:
        height, width = median_size(probe)
        _set(plain, CROP, crop_of((height, width)))
        yield CROP, f"from the images' median size of {height}x{width}"
    if BATCH in names:
        crop = plain["data"]["crop_size"]
        check_size(CROP, crop, words=(FULL,))
        batch, why = batch_of(plain, probe.classes, frames, probe.crop_size if crop == FULL else crop)
        _set(plain, BATCH, batch)
        yield BATCH, why
    if EPOCHS in names:
        own = plain["data"]["max_epochs"]
        _set(plain, EPOCHS, epochs_of(frames) if own == AUTO else own)
        yield EPOCHS, f"for {plural(frames, 'frame')}"


def settled(config: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Setting to its value, for those that are `auto` in the config of a run; for its record."""
    return {name: _value(plain, name) for name in (*NAMES, RATE) if _value(config, name) == AUTO}


def median_size(data: SegmentationData) -> tuple[int, int]:
    """Median height and width of the training images."""
    frames = data.frames("train")
    chosen = frames[:: max(len(frames) // LOOKED_AT, 1)]
    height, width = np.median([data.reading.size(frame.image) for frame in chosen], axis=0)
    return int(height), int(width)


def crop_of(size: tuple[int, int]) -> list[int]:
    """The crop for images of a size: in steps of 32 pixels, and of no more than `MOST_PIXELS`."""
    share = min(1.0, (MOST_PIXELS / (size[0] * size[1])) ** 0.5)
    sides = [int(side * share) for side in size]
    return [side // 32 * 32 or side for side in sides]


def epochs_of(frames: int) -> int:
    """The epochs for a number of training frames."""
    return max(FEWEST, min(MOST, SHOWN // max(frames, 1)))


def batch_of(plain: Mapping[str, Any], classes: ClassTable, frames: int, crop: Sequence[int]) -> tuple[int, str]:
    """The batch that fits in the memory of the devices, and why it is no other: the paper's, or the largest below it.

    It is even on each device and in each accumulation step, and 2 there at least.
    """
    trainer = plain["trainer"]
    parts = trainer["devices"] * trainer["accumulate_grad_batches"]
    memory = device_memory(trainer["accelerator"])
    if trainer["accelerator"] == "cpu":
        memory = memory // trainer["devices"] if memory else None
    fits = int(SHARE * memory / (bytes_per_pixel(plain, classes) * crop[0] * crop[1])) if memory else PAPER_BATCH
    batch = max(min(PAPER_BATCH, fits * parts, frames) // (2 * parts), 1) * 2 * parts
    if fits * parts < min(PAPER_BATCH, frames) and memory:
        return batch, f"what fits in {memory / 2**30:.0f} GiB of memory"
    return batch, f"for {plural(frames, 'frame')}" if frames < PAPER_BATCH else "the paper's"


def bytes_per_pixel(plain: Mapping[str, Any], classes: ClassTable) -> float:
    """What autograd keeps of a training step for each pixel of the crops, in bytes at 32 bits.

    Measured on two small images, which takes a moment with any network.
    """
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        module = Segmentation(plain, classes)
        weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        shape = (2, 3, 128, 128)
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            module.objective(torch.zeros(shape, dtype=torch.uint8), torch.zeros(2, 128, 128, dtype=torch.uint8))
    return sum(size for place, size in kept.items() if place not in weights) / (2 * 128 * 128)


def device_memory(accelerator: str) -> int | None:
    """Bytes of a device's memory; None where the system does not say."""
    if accelerator in ("gpu", "cuda") and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return memory_bytes()


def _value(settings: Mapping[str, Any], name: str) -> Any:
    group, _, key = name.partition(".")
    return settings[group].get(key)


def _set(plain: dict[str, Any], name: str, value: Any) -> None:
    group, _, key = name.partition(".")
    plain[group][key] = list(value) if isinstance(value, Sequence) else value


def _text(value: Any) -> str:
    return str(value).replace(" ", "")
