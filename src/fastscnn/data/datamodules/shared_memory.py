"""Space in `/dev/shm`, through which worker processes pass their batches."""

import math
import shutil
from pathlib import Path

from fastscnn.data.datasets.frames import DataError

FOLDER = Path("/dev/shm")
PREFETCHED = 2
"""Batches that a DataLoader has each worker read ahead."""
HELD = 2
"""Batches that the training process holds: the current one, and the next one as it arrives."""


def check_shared_memory(batch_bytes: int, batches: int, workers: int, devices: int = 1) -> None:
    """Check that the batches in flight fit into the free shared memory.

    Args:
        batch_bytes: Bytes of one batch of one device.
        batches: Batches of an epoch, the most that can be in flight.
        workers: Processes that read, for each device.
        devices: Devices whose processes share this machine.

    Raises:
        DataError: They do not fit; names both fixes.
    """
    free = free_shared_memory()
    under_way = devices * min(batches, workers * PREFETCHED + HELD)
    needed = under_way * batch_bytes
    if free is None or not workers or needed <= free:
        return
    size = f"--shm-size={math.ceil(needed / 2**30)}g"
    raise DataError(
        f"data.num_workers={workers}: up to {under_way} batches of {batch_bytes / 1e6:,.1f} MB pass through {FOLDER}, "
        f"which has {free / 1e6:,.1f} MB free.",
        key="data.num_workers",
        fix=f"Start the container with {size}, or set data.num_workers=0 or a smaller data.batch_size.",
    )


def free_shared_memory() -> int | None:
    """Free bytes of shared memory; None if the system has no such folder."""
    try:
        return shutil.disk_usage(FOLDER).free
    except OSError:
        return None
