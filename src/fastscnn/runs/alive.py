"""Whether the process of a run is alive, by its lock or by its heartbeat."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastscnn.runs.process import boot_id
from fastscnn.utils.locks import is_held

LOCK = "run.lock"
"""The file in a run's folder that the run's process keeps locked until it ends."""
DEAD_AFTER_SECONDS = 120.0
"""A run whose heartbeat is older than this is dead, where its lock cannot be read."""
LOCAL = {
    *("apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "ntfs", "ntfs3"),
    *("overlay", "ramfs", "reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs"),
}
"""File systems that belong to one machine: no process of another machine can hold a lock there."""


def is_alive(folder: Path, data: Mapping[str, Any], heartbeat: float) -> bool:
    """Whether the process of a run whose record says `running` is alive.

    A process number is no evidence: after a restart, or in another container, another process has the same number. The
    lock becomes free the moment its process ends. A free lock is not enough where the run may be on another machine and
    the file system does not share locks (NFS without a lock service): there the heartbeat decides.

    Args:
        folder: The run's folder.
        data: Its record.
        heartbeat: When the record's file was last touched, in seconds since 1970.
    """
    held = is_held(folder / LOCK)
    if held:
        return True
    if held is False and (_of_this_system(data) or is_local(folder)):
        return False
    return datetime.now(UTC).timestamp() - heartbeat < DEAD_AFTER_SECONDS


def is_local(folder: Path) -> bool:
    """Whether a folder is on a file system that only this machine uses; False if that is unknown."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        path = os.fsencode(folder.resolve())
    except OSError:
        return False
    best, kind = b"", ""
    for line in lines:
        before, _, after = line.partition(b" - ")
        mounted = before.split()[4].decode("unicode_escape").encode("latin-1")
        inside = path == mounted or path.startswith(mounted.rstrip(b"/") + b"/")
        if inside and len(mounted) >= len(best):
            best, kind = mounted, after.split()[0].decode("ascii", "replace")
    return kind in LOCAL


def _of_this_system(data: Mapping[str, Any]) -> bool:
    boot = data.get("boot")
    return boot is not None and boot == boot_id()
