"""Stand-ins for a runtime that crashes, for child processes, which import them by name: they hold on any processor."""

import os
import signal

from fastscnn.inference import runtimes


def load_small_crashes(file, format, threads=None):
    """As OpenVINO's int8 programs on processors with AMX: a segmentation fault below 32 pixels a side."""
    run = runtimes.load(file, format, threads)

    def crashing(images, *, fixed=False):
        if max(images.shape[2:]) < 32:
            os.kill(os.getpid(), signal.SIGSEGV)
        return run(images, fixed=fixed)

    return crashing


def load_small_is_wrong(file, format, threads=None):
    """Answers of the wrong size below 64 pixels."""
    run = runtimes.load(file, format, threads)
    return lambda images, *, fixed=False: run(images, fixed=fixed)[:, : 1 + min(images.shape[2:]) // 64 * 10**6]


def load_large_crashes(file, format, threads=None):
    """A crash on the larger half of the sizes."""
    run = runtimes.load(file, format, threads)

    def crashing(images, *, fixed=False):
        if images.shape[2] > 97:
            os.kill(os.getpid(), signal.SIGABRT)
        return run(images, fixed=fixed)

    return crashing


def quantize(original, file, kept, images):
    """A crash while calibrating."""
    assert images[0].dtype == "uint8"
    os.kill(os.getpid(), signal.SIGSEGV)
