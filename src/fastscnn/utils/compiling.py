"""Compilation of loops over pixels with numba."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with numba; it releases the interpreter lock while it runs."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"nnan", "nsz", "contract", "arcp", "reassoc"}}
    try:
        machine_code: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:  # no writable folder for the compiled code
        machine_code = njit(**options)(function)
    return machine_code
