"""What can be wrong with a request once the config and the data are known, before anything is computed."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from fastscnn.data.module import SegmentationData
from fastscnn.errors import RequestError

OURS = {"compile"}
"""Settings of the `trainer` group that are not Lightning's."""


def check_settings(plain: Mapping[str, Any]) -> None:
    """Check a training's settings among themselves, without its data.

    Raises:
        RequestError: Names the setting and the fix.
    """
    trainer = plain["trainer"]
    unknown = sorted(set(trainer) - OURS - set(inspect.signature(pl.Trainer).parameters))
    if unknown:
        raise RequestError(f"trainer.{unknown[0]} is no setting of Lightning's Trainer: leave it out.")
    _check_smallest_batch(plain, frames=plain["data"]["batch_size"])


def check_data(plain: Mapping[str, Any], data: SegmentationData) -> None:
    """Check a training's data against its settings; lists the files for this.

    Raises:
        RequestError: Names the setting or the file, and the fix.
    """
    data.setup("fit")
    if plain["data"]["evaluate_test"]:
        check_labelled(data, "test", "set data.evaluate_test=false")
    devices, val = plain["trainer"]["devices"], len(data.frames("val"))
    if val < devices:
        raise RequestError(
            f"trainer.devices={devices}, but val has {val} frames, and each device needs one: "
            f"set trainer.devices={val} or fewer."
        )
    _check_smallest_batch(plain, frames=len(data.frames("train")))


def check_labelled(data: SegmentationData, split: str, fix: str) -> None:
    """Check that every frame of a split has a label file.

    Raises:
        RequestError: One has none; names it.
    """
    unlabelled = [frame.name for frame in data.frames(split) if frame.label is None]
    if unlabelled:
        raise RequestError(
            f"{data.dataset} {split} has no label for {unlabelled[0]} ({len(unlabelled)} frames have none): {fix}."
        )


def _check_smallest_batch(plain: Mapping[str, Any], frames: int) -> None:
    """A single frame has no batch statistics at the 1x1 pooled map."""
    batch, devices = plain["data"]["batch_size"], plain["trainer"]["devices"]
    parts = devices * plain["trainer"]["accumulate_grad_batches"]
    smallest = batch // parts
    if smallest and frames < batch:
        own = frames // devices
        smallest = own % smallest or min(smallest, own)
    if smallest == 1:
        raise RequestError(
            f"data.batch_size={batch} over {parts} device(s) x accumulation step(s) ends in a batch of one frame, "
            f"which has no batch statistics at the 1x1 pooled map: set data.batch_size={2 * parts} or more, and train "
            "on at least that many frames."
        )
