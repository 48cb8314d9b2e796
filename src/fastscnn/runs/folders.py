"""The folder of a run: `OUTPUT_DIR/NAME/TIME-ID`, or `paths.run_dir`."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from fastscnn.utils.errors import RequestError


def new_run_id() -> str:
    """Eight random characters that identify a run, also in W&B.

    The first is a letter: a command line reads `1e234567` as a number, and `12e4`, the beginning of an id, too.
    """
    return secrets.choice("abcdef") + secrets.token_hex(4)[1:]


def run_folder(output_dir: Path, name: str, run_id: str) -> Path:
    """`OUTPUT_DIR/NAME/TIME-ID`, TIME in UTC to the microsecond."""
    return output_dir / name / f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S-%f}-{run_id}"


def refuse_existing(folder: Path) -> None:
    """Refuse a run folder that exists already.

    Raises:
        RequestError: It exists.
    """
    if folder.exists():
        raise RequestError(
            f"paths.run_dir={folder} exists already and is never overwritten.",
            key="paths.run_dir",
            fix="Choose another folder, or leave paths.run_dir out for a new one.",
        )


def make_folder(folder: Path) -> None:
    """Make a run's folder.

    Raises:
        RequestError: It exists already, or cannot be made.
    """
    refuse_existing(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder, error) from None


def unwritable(folder: Path, error: OSError) -> RequestError:
    """The error for a run folder that cannot be made or written."""
    return RequestError(
        f"paths.run_dir={folder} cannot be made or written ({error.strerror or error}).",
        key="paths.run_dir",
        fix="Choose a folder that you can write to, on a disk with room.",
    )
