"""What can be wrong with a request once the config and the data are known, before anything is computed."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from fastscnn.data.datamodules.imagenet import NAME
from fastscnn.models.build import FAST_SCNN, check_model
from fastscnn.runs.jobs import jobs_share_a_process
from fastscnn.training.accelerator import choose_precision
from fastscnn.training.class_weights import check_class_weights
from fastscnn.training.optim import check_optimizer
from fastscnn.training.schedules import check_schedule
from fastscnn.utils.errors import RequestError

OURS = {
    "compile",
    "channels_last",
    "cuda_graph",
    "keep_memory",
    "profile_steps",
    "recompute",
    "save_every_epochs",
    "save_every_minutes",
}
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
    _check_multirun(trainer["devices"])
    check_model(plain["model"])
    check_optimizer(plain["optimizer"])
    check_schedule(plain["scheduler"])
    check_class_weights(plain["loss"].get("class_weights"))
    _check_step(plain)
    _check_device(plain)
    _check_task(plain)
    _check_peer(plain)
    check_smallest_batch(plain, frames=plain["data"]["batch_size"])


def _check_multirun(devices: int) -> None:
    """Each process of a distributed run starts from the same command line."""
    if devices > 1 and jobs_share_a_process():
        raise RequestError(
            f"-m with trainer.devices={devices}: each process of a distributed run would start the whole multirun "
            "again.",
            key="trainer.devices",
            fix="Add hydra/launcher=submitit_slurm or submitit_local (pip install hydra-submitit-launcher), or run the "
            "jobs one by one.",
        )


def _check_step(plain: Mapping[str, Any]) -> None:
    """Lightning clips no gradients that a fused kernel would unscale."""
    trainer = plain["trainer"]
    precision = choose_precision(trainer["precision"], trainer["accelerator"])
    if plain["optimizer"].get("fused") is True and trainer["gradient_clip_val"] and precision.endswith("mixed"):
        raise RequestError(
            f"optimizer.fused=true and trainer.gradient_clip_val={trainer['gradient_clip_val']} do not go together at "
            f"trainer.precision={precision}: leave optimizer.fused out."
        )


def _check_device(plain: Mapping[str, Any]) -> None:
    """Frames lie on a GPU that computes."""
    accelerator = plain["trainer"]["accelerator"]
    if plain["data"].get("device") == "gpu" and accelerator not in ("gpu", "cuda"):
        raise RequestError(
            f"data.device=gpu, but trainer.accelerator={accelerator} computes.",
            key="data.device",
            fix="Set data.device=auto, which takes a GPU where there is one.",
        )


def _check_task(plain: Mapping[str, Any]) -> None:
    """Segmentation and the pre-training on images each have settings that the other has not."""
    classification = plain["data"]["dataset"] == NAME
    if classification != (plain["loss"].get("name") == "classification"):
        raise RequestError(
            "data=imagenet and loss=classification go together: run experiment=imagenet_pretrain."
            if classification
            else "loss=classification is for data=imagenet: leave it out."
        )
    if not classification:
        return
    if plain["model"]["name"] != FAST_SCNN:
        raise RequestError(
            f"data=imagenet pre-trains {FAST_SCNN}, and model={plain['model']['name']} is not it: leave model out."
        )
    for setting, value, default in (
        ("skip", plain["model"].get("skip", "keep"), "keep"),
        ("resolution", plain["resolution"]["name"], "full"),
        ("pretrain", plain["pretrain"]["name"], "none"),
    ):
        if value != default:
            fix = " and set data.crop_size=[H,W]" if setting == "resolution" else ""
            raise RequestError(f"{setting}={value} is for segmentation, not for data=imagenet: leave it out{fix}.")
    parts = plain["trainer"]["devices"] * plain["trainer"]["accumulate_grad_batches"]
    mixing = plain["augment"].get("mixup") or plain["augment"].get("cutmix")
    if mixing and plain["data"]["batch_size"] % (2 * parts):
        raise RequestError(
            f"augment.mixup and augment.cutmix mix pairs of images: data.batch_size={plain['data']['batch_size']} must "
            f"be a multiple of {2 * parts}."
        )


def _check_peer(plain: Mapping[str, Any]) -> None:
    """The pre-training fills parts that other networks do not have."""
    name, pretrain = plain["model"]["name"], plain["pretrain"]["name"]
    if name != FAST_SCNN and pretrain != "none":
        raise RequestError(
            f"pretrain={pretrain} fills parts of {FAST_SCNN}, and model={name} has none of them: leave pretrain out."
        )


def check_smallest_batch(plain: Mapping[str, Any], frames: int) -> None:
    """Check that no training batch is of one frame, which has no batch statistics at the 1x1 pooled map.

    Args:
        plain: The training's settings.
        frames: How many there are to train on, at least.

    Raises:
        RequestError: One would be.
    """
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
