"""Where a run lies: `OUTPUT_DIR/NAME/TIME-ID`, or a folder of one's own."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from fastscnn.utils.errors import RequestError


def new_run_id() -> str:
    """Eight random characters, a run's own; also its W&B id."""
    return secrets.token_hex(4)


def run_folder(output_dir: Path, name: str, run_id: str) -> Path:
    """`OUTPUT_DIR/NAME/TIME-ID`, TIME in UTC to the microsecond."""
    return output_dir / name / f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S-%f}-{run_id}"


def refuse_existing(folder: Path) -> None:
    """Refuse a run's folder that is there.

    Raises:
        RequestError: It exists already.
    """
    if folder.exists():
        raise RequestError(
            f"paths.run_dir={folder} exists already and is never overwritten: choose another folder, or leave "
            "paths.run_dir out for a new one."
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
    """What to say of a run's folder that cannot be made or written."""
    return RequestError(
        f"paths.run_dir={folder} cannot be made or written ({error.strerror or error}): choose a folder you can write "
        "to, on a disk with room."
    )
