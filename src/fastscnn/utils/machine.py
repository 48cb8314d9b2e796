"""The machine that a result was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

VECTORS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile")
"""Instruction sets that decide how fast a processor multiplies, by their names in Linux."""


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and operating system of this machine."""
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
    }


def usable_cores() -> int:
    """The cores that this process may use: a cluster's job, or `taskset`, may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The name of the processor, and its instruction sets that decide how fast it multiplies."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in info.items()}
    vectors = [flag for flag in VECTORS if flag in values.get("flags", "").split()]
    return f"{values.get('model name', platform.processor())} ({', '.join(vectors)})"


def memory_bytes() -> int | None:
    """Memory that this process may use: of the machine, or of its container; None if the system does not say."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # such as Windows
        return None
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # another system, or no limit
            continue
    return memory


def _memory_gib() -> float | None:
    """Memory of the machine; None if the system does not say, such as Windows."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
