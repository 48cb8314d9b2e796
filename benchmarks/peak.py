"""How much memory a process needs beyond what it holds (Linux)."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path


def peak_of(run: Callable[[], object]) -> float:
    """Peak of the memory during a call over what was held before it, in MiB."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, else it would serve the call unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1)) / 1024
