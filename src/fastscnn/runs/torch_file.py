"""Reading a file that `torch.save` wrote: nothing in it is executed, and every byte is the one that was written."""

import zipfile
from pathlib import Path
from typing import Any

import torch


class DamagedPart(ValueError):
    """A part of a file is not what was written; the message is a sentence about the file, without its name."""


def read_torch_file(path: str | Path, map_location: Any = "cpu") -> Any:
    """Read tensors and plain containers.

    torch ignores the checksums that its files hold, so that it takes a part which a disk or a copy lost for weights.

    Raises:
        DamagedPart: A part does not have its checksum.
        Exception: torch cannot read it; of many types.
    """
    if zipfile.is_zipfile(path):
        _check_sums(path)
    return torch.load(path, map_location=map_location, weights_only=True)


def _check_sums(path: str | Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except (zipfile.BadZipFile, EOFError):
        raise DamagedPart("is damaged: its table of contents does not fit what it holds.") from None
    if wrong is not None:
        raise DamagedPart(f"is damaged: the checksum of its part {wrong} is wrong.")
