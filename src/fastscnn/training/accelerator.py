"""Accelerator and precision of a run, and which of Lightning's messages are suppressed."""

import logging
import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_choice, refused

GPU = ("gpu", "cuda")
TRANSFORMER_ENGINE = ("transformer-engine", "transformer-engine-float16")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", *TRANSFORMER_ENGINE)
"""What Lightning takes."""
SHORT_PRECISIONS = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}
"""What it takes for these, as it always did."""


def choose_accelerator(accelerator: str) -> str:
    """Lightning's accelerator flag; `auto` is a CUDA GPU if there is one, else the CPU.

    `auto` never takes Apple's GPU, whose adaptive pooling refuses bins that do not divide the map; `mps` does.

    Raises:
        RequestError: The accelerator is unknown, or there is no GPU.
    """
    check_choice("trainer.accelerator", accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator in GPU and not torch.cuda.is_available():
        raise RequestError(
            f"trainer.accelerator={accelerator}, but there is no GPU here.",
            key="trainer.accelerator",
            fix="Leave it out, or set trainer.accelerator=cpu.",
        )
    return accelerator


def choose_devices(devices: Any, accelerator: str) -> int | list[int]:
    """Lightning's devices flag: how many, or which GPUs.

    Args:
        devices: A whole number; `auto` or -1 for all GPUs, or the one CPU; or a list of GPUs, `[0, 2]`, also written as
            `"0,2"`.
        accelerator: No longer `auto`.

    Raises:
        RequestError: It is none of these, or there are fewer GPUs.
    """
    found = torch.cuda.device_count() if accelerator in GPU else 1
    if devices in ("auto", -1, "-1"):
        return found
    if isinstance(devices, str) and re.fullmatch(r"\d+(,\d+)*,?", devices):
        parts = [int(part) for part in devices.split(",") if part]
        devices = parts if "," in devices else parts[0]
    if not isinstance(devices, Sequence) or isinstance(devices, str):
        if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
            raise refused("trainer.devices", devices, "a whole number of 1 or more, auto, -1 or a list of GPUs")
        if accelerator in GPU and devices > found:
            raise _too_few(devices, found)
        return devices
    places = list(devices)
    if not places or len({*places}) < len(places) or not all(type(place) is int and place >= 0 for place in places):
        raise refused("trainer.devices", devices, "a list of different GPUs, such as [0,1]")
    if accelerator not in GPU:
        raise RequestError(
            f"trainer.devices={places} lists GPUs, but trainer.accelerator={accelerator} computes.",
            key="trainer.devices",
            fix=f"Set trainer.devices={len(places)}.",
        )
    if max(places) >= found:
        raise _too_few(places, found)
    return places


def choose_precision(precision: Any, accelerator: str) -> str:
    """Lightning's precision flag; `auto` is bf16-mixed on a GPU with bfloat16 in hardware, else 32-true.

    Raises:
        RequestError: It is nothing that Lightning takes, or needs a library that is not installed.
    """
    if precision == "auto":
        on_gpu = accelerator in GPU
        return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    chosen = SHORT_PRECISIONS.get(str(precision), str(precision))
    if isinstance(precision, bool) or chosen not in PRECISIONS:
        raise refused("trainer.precision", precision, f"one of auto, {', '.join(PRECISIONS)}")
    if chosen in TRANSFORMER_ENGINE and find_spec("transformer_engine") is None:
        raise RequestError(
            f"trainer.precision={precision} needs transformer_engine, which is not installed.",
            key="trainer.precision",
            fix="Run pip install transformer-engine[pytorch], or set trainer.precision=bf16-mixed.",
        )
    return chosen


def _too_few(devices: int | list[int], found: int) -> RequestError:
    return RequestError(
        f"trainer.devices={devices}, but there are {found} GPUs here.",
        key="trainer.devices",
        fix=f"Set trainer.devices={found}." if isinstance(devices, int) else f"Name GPUs from 0 to {found - 1}.",
    )


def quiet() -> None:
    """Suppress Lightning's messages about hardware and worker counts; warnings that matter are still printed."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*The number of training batches.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*Detected call of `lr_scheduler.step.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*`trainer.fit.` was called without.*",
        ".*your dataloader is not resumable.*",  # its sampler is: it goes on with the frames that are left
        ".*module.s. in eval mode at the start of training.*",  # init.freeze
        ".*recommended to use `self.log.*sync_dist=True.*",  # the logged values are the same on every device already
    ):
        warnings.filterwarnings("ignore", message)
