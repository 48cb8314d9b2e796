"""The alternate signal stack of this thread, which some libraries replace."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("memory", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_stays() -> Iterator[None]:
    """Restore the signal stack of the calling thread after this block; Linux only.

    Each CPU plugin of OpenVINO sets a signal stack of its own and, when it is destroyed, restores the previous one. If
    two are destroyed in the order in which they were created, the second restores the freed memory of the first, and
    the next signal that Python handles, such as Ctrl-C or the end of a child process, ends the process with SIGSEGV.
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
