"""The memory on which this thread's signals are handled, where a library puts its own in that place."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("memory", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_stays() -> Iterator[None]:
    """Give the calling thread back, after this block, the signal stack that it had before.

    Each CPU plugin of OpenVINO sets one of its own and, when it is destroyed, the one that it found. Where two are
    destroyed in the order in which they were made, the second one sets the freed memory of the first, and the next
    signal that Python handles, such as Ctrl-C or the end of a child process, ends the process with SIGSEGV.
    Nothing is done where the system is not Linux.
    """
    sigaltstack = getattr(ctypes.CDLL(None), "sigaltstack", None) if sys.platform == "linux" else None
    before = _Stack()
    if sigaltstack is None or sigaltstack(None, ctypes.byref(before)):
        yield
        return
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)
