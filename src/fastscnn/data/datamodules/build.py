"""Building the data module of a config."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastscnn.data.datamodules.adapted import NAME as EXTERNAL
from fastscnn.data.datamodules.external import ExternalData, build_external
from fastscnn.data.datamodules.imagenet import NAME as IMAGENET
from fastscnn.data.datamodules.imagenet import ImageNetData
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder import folder_source
from fastscnn.data.datasets.folder_splits import NAME as FOLDER
from fastscnn.data.datasets.frames import DataError, Reading
from fastscnn.data.datasets.images import train_transform
from fastscnn.data.transforms.augment import Augmentation, PaperAugment, no_augment
from fastscnn.data.transforms.strong import StrongAugment
from fastscnn.utils.images import MAX_PIXELS

READING = {"exif": "refuse", "max_pixels": MAX_PIXELS}
"""How files are read by the settings that are null, or that a run of an earlier version does not have."""
AS_THEY_ARE = {"crop_size": "full", "batch_size": 1}
"""What stands for `auto` where nothing is trained."""
TrainingData = SegmentationData | ImageNetData | ExternalData


def build_training_data(plain: Mapping[str, Any]) -> TrainingData:
    """Build the data module of a training's config.

    Raises:
        DataError: A setting is wrong.
    """
    trainer = plain["trainer"]
    if plain["data"]["dataset"] == EXTERNAL:
        parts = {"devices": trainer["devices"], "accumulate": trainer["accumulate_grad_batches"]}
        return build_external(plain["data"], **parts)
    build = build_image_data if plain["data"]["dataset"] == IMAGENET else build_data
    data: TrainingData = build(
        plain["data"],
        plain["augment"],
        seed=plain["seed"],
        devices=trainer["devices"],
        accumulate=trainer["accumulate_grad_batches"],
    )
    return data


def build_data(
    data: Mapping[str, Any],
    augment: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    devices: int = 1,
    accumulate: int = 1,
) -> SegmentationData:
    """Build the data module of a `data` and an `augment` config.

    Args:
        data: `dataset`, `root`, `crop_size` (`[H, W]`, or `full` for the size of the first training frame),
            `batch_size`, `num_workers`, `store`, `exif`, `max_pixels`, `train_splits` (where something is trained),
            `held_out` and, for the streets, `streets`, for a folder what `folder_source` takes. Training reads train
            and val, with `evaluate_test` the test frames too, and decodes them into the store; where nothing is
            trained, only what is there is used.
        augment: `name` (`paper`, `strong` or `none`) and the settings of its class; None where nothing is trained.
        seed: Of the order and the augmentation.
        devices: Number of devices that share a batch.
        accumulate: Forward passes of one optimizer step.

    Raises:
        DataError: A setting is wrong.
    """
    if data["dataset"] == EXTERNAL:
        raise DataError(
            "data=external gives batches, and this needs the frames of a data set of ours.",
            key="data",
            fix="Name one, as in data=folder data.root=DIR.",
        )
    if augment is None:  # nothing is cropped or gathered
        data = {**data, **{key: value for key, value in AS_THEY_ARE.items() if data[key] == "auto"}}
    splits = ("train", "val", "test") if data.get("evaluate_test") else ("train", "val")
    reading = reading_of(data)
    source = folder_source(data["root"], data) if data["dataset"] == FOLDER else None
    return SegmentationData(
        **{key: data[key] for key in ("dataset", "batch_size", "num_workers", "crop_size")},
        root=None if data["root"] is None else os.path.expanduser(data["root"]),
        augment=no_augment if augment is None else _augment(augment),
        seed=seed,
        streets=data.get("streets"),
        devices=devices,
        accumulate=accumulate,
        splits=() if augment is None else splits,
        store=data.get("store", "auto"),  # runs of before the store have no such setting
        train_splits=("train",) if augment is None else data.get("train_splits") or ("train",),
        held_out=data.get("held_out"),
        reading=replace(reading, colors=source.colors) if source else reading,
        device=_default(data.get("device"), "auto"),
        loader=_default(data.get("loader"), "auto"),
        source=source,
    )


def reading_of(data: Mapping[str, Any]) -> Reading:
    """How files are read by a `data` config.

    Raises:
        RequestError: A setting is wrong.
    """
    return Reading(**{key: _default(data.get(key), default) for key, default in READING.items()})


def build_image_data(
    data: Mapping[str, Any],
    augment: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    devices: int = 1,
    accumulate: int = 1,
) -> ImageNetData:
    """Build the data module of images with one class each.

    Args:
        data: `root`, `crop_size` (`[H, W]`), `crop_pct`, `batch_size`, `num_workers` and `max_pixels`.
        augment: `name` (`imagenet` or `none`) and the settings of `train_transform`, beside those of the mixing; None
            where nothing is trained.
        seed: Of the order and the augmentation.
        devices: Number of devices that share a batch.
        accumulate: Forward passes of one optimizer step.

    Raises:
        DataError: A setting is wrong.
    """
    if data["crop_size"] == "full":
        raise DataError(
            "data.crop_size=full: these images are of many sizes.",
            key="data.crop_size",
            fix="Set data.crop_size=[224,224] or another.",
        )
    if data.get("evaluate_test"):
        raise DataError(
            "data.evaluate_test=true, but ImageNet's test has no labels.",
            key="data.evaluate_test",
            fix="Leave it false.",
        )
    transform = None
    if augment is not None and augment["name"] == "imagenet":
        settings = {key: augment[key] for key in ("scale", "flip", "color_jitter", "auto_augment")}
        transform = train_transform(data["crop_size"], **settings)
    elif augment is not None and augment["name"] != "none":
        raise DataError(
            f"augment.name={augment['name']} is for segmentation.",
            key="augment.name",
            fix="Use augment=imagenet or augment=none.",
        )
    return ImageNetData(
        root=None if data["root"] is None else os.path.expanduser(data["root"]),
        **{key: data[key] for key in ("crop_size", "crop_pct", "batch_size", "num_workers")},
        transform=transform,
        seed=seed,
        devices=devices,
        accumulate=accumulate,
        splits=() if augment is None else ("train", "val"),
        max_pixels=_default(data.get("max_pixels"), MAX_PIXELS),
    )


def title(data: TrainingData) -> str:
    """The name of the data in printed results: synthetic streets are not given the name of Cityscapes."""
    return "Synthetic streets" if data.synthetic else data.classes.name


def _augment(augment: Mapping[str, Any]) -> Callable[[Sequence[int]], Augmentation]:
    """What makes the augmentation of a crop size."""
    settings = dict(augment)
    name = settings.pop("name")
    if name == "none":
        return no_augment
    if name == "paper":
        return PaperAugment(**settings)
    if name == "strong":
        return StrongAugment(**settings)
    raise DataError(
        f"augment.name={name} is not for segmentation.",
        key="augment.name",
        fix="Use augment=paper, augment=strong or augment=none.",
    )


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value
