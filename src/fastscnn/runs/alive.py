"""Whether the process of a run lives: its lock says so, or else its heartbeat."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastscnn.runs.process import boot_id
from fastscnn.utils.locks import is_held

LOCK = "run.lock"
"""The file in a run's folder that its process holds locked as long as it lives."""
DEAD_AFTER_SECONDS = 120.0
"""A run without a heartbeat for so long is dead, where its lock cannot be asked."""
LOCAL = {
    *("apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "ntfs", "ntfs3"),
    *("overlay", "ramfs", "reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs"),
}
"""File systems that belong to one machine: nobody elsewhere can hold a lock there."""


def is_alive(folder: Path, data: Mapping[str, Any], heartbeat: float) -> bool:
    """Whether the process lives whose record says `running`.

    A process number tells nothing: after a restart another process has it, and in another container it means another
    one. The lock is free the moment that its process ends. Where it is free but may be of another machine, one whose
    file system does not share its locks (NFS without a lock service), the heartbeat decides.

    Args:
        folder: The run's folder.
        data: Its record.
        heartbeat: When the record's file was touched last, seconds since 1970.
    """
    held = is_held(folder / LOCK)
    if held:
        return True
    if held is False and (_of_this_system(data) or is_local(folder)):
        return False
    return datetime.now(UTC).timestamp() - heartbeat < DEAD_AFTER_SECONDS


def is_local(folder: Path) -> bool:
    """Whether a folder lies on a file system that is this machine's alone; False where that is not known."""
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
