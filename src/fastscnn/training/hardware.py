"""What a run takes of its machine: precision, memory, and silence about it."""

import ctypes
import logging
import sys
import warnings

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def uses_cuda(accelerator: str) -> bool:
    """Whether Lightning's `accelerator` setting means a CUDA device here."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def choose_precision(precision: str, accelerator: str) -> str:
    """Lightning's precision flag; `auto` is bf16-mixed on a GPU that has it in hardware, else 32-true."""
    if precision != "auto":
        return precision
    return (
        "bf16-mixed"
        if uses_cuda(accelerator) and torch.cuda.is_bf16_supported(including_emulation=False)
        else "32-true"
    )


def keep_freed_memory() -> None:
    """Keep freed memory in the process on Linux, instead of giving it back and faulting it in at every step.

    A training step on a CPU frees and takes the same hundreds of megabytes each time; the page faults of that
    cost a third of the step (`results/`). Nothing happens where the C library is not glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def quiet() -> None:
    """Keep Lightning's remarks on hardware and worker counts off the screen; warnings of substance stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*The number of training batches.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*Detected call of `lr_scheduler.step.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*`trainer.fit.` was called without.*",
    ):
        warnings.filterwarnings("ignore", message)
