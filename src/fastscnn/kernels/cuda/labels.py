"""Fused upsampling to labels and to probabilities on a GPU, by Triton: no full-size logits are ever built.

No call waits for the GPU, and all can be captured into a CUDA graph once they have run (the first call of a kind
compiles its program). To find logits that are not finite would be to wait, so these are computed here too: they reach
the pixels around them as in torch, whose `argmax` takes NaN for the largest (where the size stays, torch copies, and
here 0 times infinity is NaN).
"""

import contextlib
import importlib
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastscnn.kernels.cuda import layers
from fastscnn.kernels.cuda.choice import current

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST = (7, 0)
"""The first compute capability that Triton's programs run on."""
CHUNK = 32
"""Classes that a program looks at together: a bit of an int32 for each."""
MOST_NEAR = 128
"""Logits of a class that a label program looks through to leave classes out."""
TILE = (16, 32, 1)
"""Rows and columns of a probability program's tile, and its warps: one, so that no class waits for another's."""
TILE_OF_MANY = (16, 32, 1)
CHUNK_OF_MANY = 16


def applies(logits: Tensor) -> bool:
    """Whether the programs can take these: float32 or half precision on a GPU with Triton, without a gradient."""
    return (
        logits.device.type == "cuda"
        and logits.dtype in DTYPES
        and logits.numel() > 0
        and not (logits.requires_grad and torch.is_grad_enabled())
        and _usable(logits.device.index)
    )


def upsample_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_labels`; where `applies`."""
    out = torch.empty(len(logits), *size, dtype=torch.uint8, device=logits.device)
    label_tile = current().label_tile
    near_rows, near_columns = (
        _reached(tile, side, target) for tile, side, target in zip(label_tile[:2], logits.shape[2:], size, strict=True)
    )
    prunes = near_rows * near_columns <= MOST_NEAR
    _run(
        "labels_program",
        logits,
        size,
        out,
        label_tile,
        CHUNK=min(CHUNK, _power_of_two(logits.shape[1])),
        NEAR=_power_of_two(near_rows * near_columns) if prunes else 0,
        NEAR_COLUMNS=near_columns if prunes else 1,
        WHOLE=logits.shape[1] <= CHUNK,
        **layers.overlapping(logits),
    )
    return out


def upsample_probabilities(logits: Tensor, size: tuple[int, int], out: Tensor) -> Tensor:
    """See `fastscnn.kernels.upsample_probabilities`; where `applies` and out is contiguous float32 on the same GPU."""
    classes = logits.shape[1]
    if classes <= CHUNK:
        _run("probabilities_program", logits, size, out, TILE, CHUNK=_power_of_two(classes))
    else:
        _run("probabilities_of_many_program", logits, size, out, TILE_OF_MANY, CHUNK=CHUNK_OF_MANY)
    return out


def upsample_confidence(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """See `fastscnn.kernels.upsample_confidence`; where `applies`."""
    labels = torch.empty(len(logits), *size, dtype=torch.uint8, device=logits.device)
    confidence = torch.empty(labels.shape, device=logits.device)
    chunk = min(CHUNK_OF_MANY, _power_of_two(logits.shape[1]))
    _run("confidence_program", logits, size, confidence, TILE_OF_MANY, labels=labels, CHUNK=chunk)
    return labels, confidence


def _run(
    program: str, logits: Tensor, size: tuple[int, int], out: Tensor, tile: tuple[int, int, int], **constants: Any
) -> None:
    """Launch a program over all tiles of all images."""
    logits = logits.detach()
    rows, columns, warps = tile
    tiles = -(-size[0] // rows) * -(-size[1] // columns)
    scales = [float(np.float32(side) / np.float32(target)) for side, target in zip(logits.shape[2:], size, strict=True)]
    with torch.cuda.device(logits.device) if logits.is_cuda else contextlib.nullcontext():
        getattr(programs(), program)[tiles, len(logits)](
            logits,
            out,
            *logits.shape[1:],
            *size,
            *scales,
            *logits.stride(),
            ROWS=rows,
            COLUMNS=columns,
            num_warps=warps,
            **layers.FUSED,
            **constants,
        )


def _reached(tile: int, side: int, target: int) -> int:
    """Inputs along a side that `tile` of its outputs lie between, at most, whichever way their positions round."""
    return min(side, math.ceil((tile - 1) * side / target + 0.01) + 2)


def _power_of_two(count: int) -> int:
    """The first that is at least `count`."""
    return 1 << (count - 1).bit_length()


@cache
def programs() -> Any:
    """The module of the programs.

    Raises:
        ImportError: Triton is not installed.
    """
    return importlib.import_module("fastscnn.kernels.cuda.labels_kernels")


def usable(device: torch.device) -> bool:
    """Whether a GPU can run the programs."""
    return _usable(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _usable(device: int) -> bool:
    try:
        programs()
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= OLDEST
