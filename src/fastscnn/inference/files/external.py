"""An exported file in its runtime in a child process, so that a crash of the runtime is an error like any other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fastscnn.inference.files.runtimes import NAMES, load
from fastscnn.utils import isolated
from fastscnn.utils.errors import Crash
from fastscnn.utils.machine import processor


class ExternalRun:
    """An exported file that runs in a child process, which is replaced after a crash; see `Run`.

    Args:
        file: The file.
        format: `onnx`, `openvino` or `torch`.
        precision: `float32`; `bfloat16` for OpenVINO.

    Raises:
        Crash: The runtime ended its process, here or in a later call; names it, the size and the processor.
        RequestError: The runtime is not installed, or the processor does not compute in the precision.
    """

    def __init__(self, file: Path, format: str, precision: str = "float32") -> None:
        self.file = file
        self.format = format
        self.precision = precision
        self._child: isolated.Hosted | None = None

    def __call__(self, images: npt.NDArray[Any], *, fixed: bool = False) -> npt.NDArray[Any]:
        """Compute the file's output of images in the child process."""
        batch, _, height, width = images.shape
        try:
            if self._child is None:
                self._child = isolated.Hosted(load, self.file, self.format, None, self.precision)
            output: npt.NDArray[Any] = self._child(images, fixed=fixed)
        except Crash as crash:
            self.close()
            raise crashed(NAMES[self.format], f"on {described_images(batch, height, width)}", crash) from None
        return output

    def __enter__(self) -> "ExternalRun":
        """End the child process with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process; the next call starts another one."""
        if self._child is not None:
            self._child.close()
        self._child = None


def call(runtime: str, doing: str, function: Callable[..., Any], *arguments: Any, **options: Sequence[Any]) -> Any:
    """Call a function of an external runtime in a child process.

    Args:
        runtime: Its name.
        doing: What it does, for the message of a crash, such as `calibrating int8 with 3 images of 64x96`.
        function: As `isolated.run` takes it.
        arguments: As `isolated.run` takes them.
        options: `served`, as `isolated.run` takes it.

    Raises:
        Crash: The runtime ended its process; names it, what it did and the processor.
    """
    try:
        return isolated.run(function, *arguments, **options)
    except Crash as crash:
        raise crashed(runtime, doing, crash) from None


def crashed(runtime: str, doing: str, crash: Crash) -> Crash:
    """The error of a runtime's crash, one sentence."""
    return Crash(f"{runtime} crashed ({crash.how}) {doing}, on this processor: {processor()}.", crash.how)


def described_images(batch: int, height: int, width: int) -> str:
    """Images of a size, as messages name them."""
    return f"{batch} image{'s' if batch > 1 else ''} of {height}x{width}"
