"""Accelerator and precision of a run, and which of Lightning's messages are suppressed."""

import logging
import warnings

import torch

from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_choice


def choose_accelerator(accelerator: str, devices: int = 1) -> str:
    """Lightning's accelerator flag; `auto` is a CUDA GPU if there is one, else the CPU.

    `auto` never takes Apple's GPU, whose adaptive pooling refuses bins that do not divide the map; `mps` does.

    Raises:
        RequestError: The accelerator is unknown, there is no GPU, or there are fewer GPUs than devices.
    """
    check_choice("trainer.accelerator", accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise RequestError(
            f"trainer.accelerator={accelerator}, but there is no GPU here.",
            key="trainer.accelerator",
            fix="Leave it out, or set trainer.accelerator=cpu.",
        )
    if accelerator in ("gpu", "cuda") and devices > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise RequestError(
            f"trainer.devices={devices}, but there are {found} GPUs here.",
            key="trainer.devices",
            fix=f"Set trainer.devices={found}.",
        )
    return accelerator


def choose_precision(precision: str, accelerator: str) -> str:
    """Lightning's precision flag; `auto` is bf16-mixed on a GPU with bfloat16 in hardware, else 32-true."""
    check_choice("trainer.precision", precision, ("auto", "32-true", "bf16-mixed", "16-mixed"))
    if precision != "auto":
        return precision
    on_gpu = accelerator in ("gpu", "cuda")
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


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
        ".*recommended to use `self.log.*sync_dist=True.*",  # the logged values are the same on every device already
    ):
        warnings.filterwarnings("ignore", message)
