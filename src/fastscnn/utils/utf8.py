"""UTF-8 under any locale: in file names, on the command line and in output."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

VARIABLE = "PYTHONUTF8"


def use_utf8(may_restart: Callable[[Path], bool]) -> None:
    """Restart this process in Python's UTF-8 mode if the locale has another encoding (`LC_ALL=C`).

    In such a locale Python decodes a name to surrogates, which cannot be written to a text file, sent to a tracker or
    compared with the output of another run. Child processes inherit the mode. Windows has UTF-8 names already.

    Args:
        may_restart: Whether a program, by its file, may be restarted; one that only imports this package may not.
    """
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    allowed = program is not None and may_restart(Path(program).resolve())
    if os.name != "posix" or not allowed or sys.getfilesystemencoding() == "utf-8" or os.environ.get(VARIABLE) == "1":
        return
    os.environ[VARIABLE] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def print_anything() -> None:
    """Print letters that the terminal's encoding lacks as escape codes, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
