"""How the CPU kernels are compiled, and the threads that run them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit

ONE, ZERO, HALF, SMALLEST = np.float32(1), np.float32(0), np.float32(0.5), np.float32(-126)
LOG2_E = np.float32(1.4426950408889634)
# Taylor coefficients of 2**f: ln(2)**n / n!; on -0.5 to 0.5 the rest is below 2e-7.
C1, C2, C3, C4, C5, C6 = (
    np.float32(c) for c in (0.6931471806, 0.2402265070, 0.0555041087, 0.0096181291, 0.0013333558, 0.0001540353)
)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel with numba; it lets go of the interpreter while it runs."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"nnan", "nsz", "contract", "arcp", "reassoc"}}
    try:
        machine_code: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that can be written to keep the machine code in
        machine_code = njit(**options)(function)
    return machine_code


def parallel(function: Callable[..., Any], jobs: Iterable[Any]) -> list[Any]:
    """Call a function on each job, on as many threads as torch has; results in the order of the jobs."""
    threads = torch.get_num_threads()
    if threads == 1:
        return [function(job) for job in jobs]
    return list(_pool(threads, os.getpid()).map(function, jobs))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(threads)
