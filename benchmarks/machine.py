"""What a result was measured on."""

import shlex
import subprocess
import sys
from typing import Any

import torch

from fastscnn.runs.process import describe_process
from fastscnn.utils.machine import describe_machine


def measured() -> dict[str, Any]:
    """The machine with its GPU, the command, the versions and the commit: goes into every file of results/."""
    gpu = {"gpu": _gpu()} if torch.cuda.is_available() else {}
    command = shlex.join(["python", *sys.argv])
    return {"machine": describe_machine() | gpu, **describe_process(), "command": command}


def _gpu() -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "driver": driver,
        "cuda": torch.version.cuda,
    }
