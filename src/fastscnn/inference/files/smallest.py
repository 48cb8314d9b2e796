"""The smallest image that an int8 file takes: some runtimes crash on small images on some processors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fastscnn.inference.files.external import ExternalRun
from fastscnn.inference.files.interface import SIZES, Interface, Run, Shape, checked_output, test_images
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.machine import processor
from fastscnn.utils.progress import Progress

SIDES = (256, 128, 64, 32, 16, 8, 4, 2)
"""Sides that are tried if a file fails at one of the sizes that every export is tried with."""


@dataclass(frozen=True)
class Smallest:
    """The smallest image that a file takes.

    Attributes:
        side: Height and width that its input must have at least, in pixels; 1 if it works at every size.
        reason: What happens with smaller images, in one sentence; None if it works at every size.
    """

    side: int
    reason: str | None

    def __str__(self) -> str:
        if self.reason is None:
            return "runs at every size"
        return f"runs from {self.side} pixels a side on; below, {self.reason}"


EVERY_SIZE = Smallest(1, None)


def smallest_side(file: Path, format: str, interface: Interface) -> Smallest:
    """Find the smallest side that an int8 file takes; every try is made in a child process.

    Args:
        file: The file.
        format: `onnx` or `openvino`.
        interface: What it takes and gives.

    Raises:
        Crash: Its runtime crashes on larger images too.
        RequestError: It fails on larger images too.
    """
    with ExternalRun(file, format) as run:
        failures = [(shape, error) for shape in SIZES if (error := _failure(run, interface, shape))]
        if not failures:
            return EVERY_SIZE
        largest, reason = max(failures, key=lambda failure: min(failure[0][1:]))
        found = None
        for side in SIDES:
            above = side > min(largest[1:])
            error = _failures(run, interface, side) if above else reason
            if error is not None:
                if found is None:
                    raise error
                break
            found = side
        assert found is not None
        images = test_images([(1, found, found)])[0]
        return Smallest(min(interface.prepared(images).shape[2:]), str(reason))


def known_smallest_side(file: Path, format: str, described: Mapping[str, str]) -> int:
    """The smallest side of a file's input that works on this processor.

    The export found it for its own processor and wrote it into an int8 file; on another processor it is found here.

    Args:
        file: The file.
        format: `onnx` or `openvino`.
        described: Its description; empty if `export.py` did not write it.

    Raises:
        Crash: The file's runtime crashes on images of any size here.
        RequestError: It fails on images of any size here.
    """
    if described.get("precision") != "int8":
        return 1
    if described.get("processor") == processor():
        return int(described["smallest_side"])
    try:
        with Progress(f"trying {file.name} on this processor"):
            return smallest_side(file, format, Interface.described(described)).side
    except Crash as crash:
        raise Crash(f"{file} does not run here: {crash}", crash.how) from None
    except RequestError as error:
        raise RequestError(
            f"checkpoint={file} does not run here: {error}",
            key="checkpoint",
            fix="Name another file, or export it anew.",
        ) from None


def _failures(run: ExternalRun, interface: Interface, side: int) -> Crash | RequestError | None:
    """What fails on images of that side, including a program for this size alone; None if nothing does."""
    shapes = ((1, side, side), (2, side, side + 1), (1, side + 7, side), (1, side, 4 * side))
    for shape in shapes:
        if error := _failure(run, interface, shape):
            return error
    return _failure(partial(run, fixed=True), interface, shapes[0])


def _failure(run: Run, interface: Interface, shape: Shape) -> Crash | RequestError | None:
    try:
        checked_output(run, interface, test_images([shape])[0])
    except (Crash, RequestError) as error:
        return error
    return None
