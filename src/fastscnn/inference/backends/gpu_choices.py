"""What was measured once to be the quickest on a GPU, kept in a file that every later run reads.

`python benchmarks/gpu_choices.py` measures and writes it. Nothing but speed depends on it.
"""

import importlib.metadata
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastscnn.kernels.cuda.choice import AFTER, EARLY, LATE, Choice, usual
from fastscnn.utils.files import write_json

OPEN: dict[str, tuple[Any, ...]] = {
    "overlaps": (AFTER, EARLY, LATE),
    "walks": (False, True),
    "label_tile": ((8, 64, 4), (4, 64, 2), (8, 128, 8), (8, 128, 4), (16, 64, 4)),
}
"""What is tried for each field of a `Choice`, one field after another."""
WORTH = 0.98
"""A choice is better than another where it takes less than this share of the other's time."""


def choice_for(device: torch.device, pixels: int) -> Choice:
    """The choice of the frames nearest in size that were measured on this GPU; the usual one where there are none."""
    known = read(device)
    nearest = min(known, key=lambda size: abs(math.log(size / pixels)), default=0)
    near = nearest and max(nearest, pixels) <= 2 * min(nearest, pixels)
    return known[nearest] if near else usual(pixels)


def quickest(time_of: Callable[[Choice], float], pixels: int) -> tuple[Choice, dict[Choice, float]]:
    """The best of all that is open, by changing one field after another, and the time of each that was tried.

    Args:
        time_of: How long frames take; infinity where it cannot be.
        pixels: Of all frames together.
    """
    best = usual(pixels)
    times = {best: time_of(best)}
    for field, values in OPEN.items():
        for other in [best._replace(**{field: value}) for value in values]:
            if other not in times:
                times[other] = time_of(other)
            if times[other] < WORTH * times[best]:
                best = other
    return best, times


def read(device: torch.device) -> dict[int, Choice]:
    """Pixels of all frames together, and what was chosen for them; empty without a file of this GPU and Triton."""
    try:
        content = json.loads(file_of(device).read_text(encoding="utf-8"))
        if content["made_with"] != _made_with(device):
            return {}
        return {int(pixels): _choice(fields) for pixels, fields in content["choices"].items()}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):  # only speed depends on it
        return {}


def keep(device: torch.device, choices: dict[int, Choice]) -> Path:
    """Write the file that `read` reads, and tell where it is.

    Raises:
        WriteError: It cannot be written.
    """
    path = file_of(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    by_pixels = {str(pixels): choice._asdict() for pixels, choice in choices.items()}
    write_json(path, {"made_with": _made_with(device), "choices": by_pixels})
    return path


def file_of(device: torch.device) -> Path:
    """Below `$XDG_CACHE_HOME`, by default `~/.cache`."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fastscnn"
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', _name(device).lower())}.json"


def _choice(fields: dict[str, Any]) -> Choice:
    """A choice that is open: a file may hold anything."""
    found = Choice(fields["overlaps"], fields["walks"], tuple(fields["label_tile"]))
    for name, value in found._asdict().items():
        if value not in OPEN[name] or type(value) is not type(OPEN[name][0]):
            raise ValueError(f"{name} is {value}")
    return found


def _made_with(device: torch.device) -> dict[str, str]:
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = ""
    return {"gpu": _name(device), "triton": triton}


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
