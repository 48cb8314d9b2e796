"""Renaming W&B's offline folders without a run: if one is among its arguments, `wandb sync` sends nothing at all.

W&B's service collects what it writes. Where it is killed early, its `.wandb` file holds a header and no run, and
`wandb sync outputs/*/*/wandb/offline-run-*` then sends none of the others either, with exit code 0.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

from fastscnn.runs.record import read_record

BLOCK_BYTES = 2**15
"""A `.wandb` file is a LevelDB log: after the header, records in chunks that never cross a block's end."""
WHOLE, LAST = 1, 4
RUN_FIELD = 16
"""The field of W&B's `Record` message that holds the run itself; it is in one of the first records."""
HEADER = b":W&B\xe1\xbe\x00"
LARGEST = 2**16
"""A file of this many bytes or more counts as holding its run, without being read."""
SET_ASIDE = "empty-"
"""What the name of such a folder begins with from then on, so that `offline-run-*` does not find it."""


def set_aside_empty(folder: Path) -> list[Path]:
    """Rename W&B's offline folders in a run's folder that hold no run; returns their new names.

    Only for a run that no process is writing: its first data may still come.
    """
    moved = []
    for place in sorted(folder.glob("wandb/offline-run-*")):
        with contextlib.suppress(OSError):
            if place.is_dir() and not any(map(holds_run, place.glob("*.wandb"))):
                moved.append(place.rename(place.with_name(SET_ASIDE + place.name)))
    return moved


def set_aside_dead(output_dir: Path) -> list[Path]:
    """Rename such folders of all runs of an output folder, `OUTPUT_DIR/NAME/TIME-ID`, that are not running."""
    moved = []
    for folder in sorted({path.parents[2] for path in output_dir.glob("*/*/wandb/offline-run-*/*.wandb")}):
        with contextlib.suppress(OSError, ValueError, KeyError):
            empty = [path for path in folder.glob("wandb/offline-run-*/*.wandb") if not holds_run(path)]
            if empty and read_record(folder)["status"] != "running":
                moved += set_aside_empty(folder)
    return moved


def holds_run(path: Path) -> bool:
    """Whether a `.wandb` file holds the record of its run, without which it cannot be sent.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST)
    if len(data) == LARGEST or (len(data) > len(HEADER) and not data.startswith(HEADER)):
        return True  # or a form of a later version, which is not known here
    return any(_field(record) == RUN_FIELD for record in _records(data))


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a LevelDB log."""
    at, record = len(HEADER), b""
    while at + 7 <= len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if left < 7 or kind == 0:
            at += left
            continue
        chunk = data[at + 7 : at + 7 + size]
        if len(chunk) < size:
            return
        record += chunk
        at += 7 + size
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def _field(record: bytes) -> int | None:
    """The number of a protobuf message's first field that is not its running number."""
    at = 0
    for _ in range(2):
        key, at = _varint(record, at)
        if key is None or key != 8:
            return None if key is None else key >> 3
        _, at = _varint(record, at)
    return None


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value, shift = 0, 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return None, at
