"""Stand-ins for a runtime that crashes, for child processes, which import them by name: they hold on any processor.

And what puts them into the place of the real ones, in the process of a test.
"""

import os
import signal

from fastscnn.inference.files import runtimes


def load_small_crashes(file, format, *settings):
    """As OpenVINO's int8 programs on processors with AMX: a segmentation fault below 32 pixels a side."""
    run = runtimes.load(file, format, *settings)

    def crashing(images, *, fixed=False):
        if max(images.shape[2:]) < 32:
            os.kill(os.getpid(), signal.SIGSEGV)
        return run(images, fixed=fixed)

    return crashing


def load_small_is_wrong(file, format, *settings):
    """Answers of the wrong size below 64 pixels."""
    run = runtimes.load(file, format, *settings)
    return lambda images, *, fixed=False: run(images, fixed=fixed)[:, : 1 + min(images.shape[2:]) // 64 * 10**6]


def load_large_crashes(file, format, *settings):
    """A crash on the larger half of the sizes."""
    run = runtimes.load(file, format, *settings)

    def crashing(images, *, fixed=False):
        if images.shape[2] > 97:
            os.kill(os.getpid(), signal.SIGABRT)
        return run(images, fixed=fixed)

    return crashing


def load_large_is_wrong(file, format, *settings):
    """An output of the wrong size on the larger half of the sizes."""
    run = runtimes.load(file, format, *settings)
    return lambda images, *, fixed=False: run(images, fixed=fixed)[:, : 10**6 if images.shape[2] <= 97 else 1]


def crash(original, file, float32_parts, images):
    """A crash while calibrating."""
    assert images[0].dtype == "uint8"
    os.kill(os.getpid(), signal.SIGSEGV)


def copying(monkeypatch):
    """Put a copy in the place of the quantization; returns the parts that it was asked to leave in float32."""
    from fastscnn.export import quantize
    from fastscnn.export.quantizers import QUANTIZERS
    from fastscnn.inference.files import external

    tried = []

    def call(runtime, doing, function, *arguments, **options):
        if function not in QUANTIZERS.values():
            return external.call(runtime, doing, function, *arguments, **options)
        original, file, float32_parts = arguments
        tried.append(float32_parts)
        for suffix in {file.suffix, ".bin"}:
            if original.with_suffix(suffix).exists():
                file.with_suffix(suffix).write_bytes(original.with_suffix(suffix).read_bytes())

    monkeypatch.setattr(quantize, "call", call)
    return tried


def as_int8(monkeypatch, format, load=load_small_crashes):
    """Take a copy of the float32 file for the int8 one, which `load` opens; the float32 one is opened as it is."""
    from fastscnn.inference.files import external

    copying(monkeypatch)
    plain = external.load

    class Run(external.ExternalRun):
        def __call__(self, images, *, fixed=False):
            int8 = self.file.with_name(f"float32{self.file.suffix}").exists()
            monkeypatch.setattr(external, "load", load if int8 else plain)
            return super().__call__(images, fixed=fixed)

    for module in ("export.quantize", "inference.files.smallest"):
        monkeypatch.setattr(f"fastscnn.{module}.ExternalRun", Run)


def calibration():
    """Images to calibrate with, and an evaluation that every int8 file passes."""
    from fastscnn.export.quantize import Calibration
    from fastscnn.inference.files.interface import test_images

    images = test_images([(1, 64, 96)] * 4)
    return Calibration(images, lambda labels: float(labels(images[0]).shape == (1, 64, 96)))
