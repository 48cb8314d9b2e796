"""The first moments of a command, while its imports take a third of a second: Ctrl-C ends it without a traceback."""

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig


def start(config_name: str, command: "Callable[[DictConfig], Any]") -> None:
    """Import what every command needs, then launch one; see `launch`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from fastscnn.cli.launch import launch

    launch(config_name, command)


def started() -> None:
    """Leave Ctrl-C to the command's own handling, which begins."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: Any) -> None:
    os.write(2, b"stopped by SIGINT\n")
    os._exit(128 + number)  # nothing is begun, and an exception within an import can end anywhere
