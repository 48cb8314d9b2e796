"""What is wrong with a file of a data set, in a training: its error names the command that looks at all files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastscnn.data.datasets.folder import check_command
from fastscnn.data.datasets.frames import DataError

CHECKED = ("folder", "fine", "fine_coarse", "camvid")
"""Data sets that `check_data.py` looks at."""
OF_FILES = ("data", "data.root", "data.classes", "data.lists", "data.exif", "data.max_pixels")
"""Keys of errors about files."""


@contextmanager
def naming_check(data: Mapping[str, Any]) -> Iterator[None]:
    """Add the command to the fix of an error about a file.

    Args:
        data: The `data` config of the training.

    Raises:
        DataError: As it was raised in the block; only its fix is longer.
    """
    try:
        yield
    except DataError as error:
        root = str(data.get("root") or "")
        there = root and Path(root).expanduser().is_dir()
        if there and data["dataset"] in CHECKED and error.key in OF_FILES and "check_data" not in error.fix:
            error.fix = f"{error.fix} `{check_command(data)}` looks at every file.".strip()
        raise
