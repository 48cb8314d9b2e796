"""UTF-8 whatever the locale says: in names of files, on the command line and in what is printed."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

VARIABLE = "PYTHONUTF8"


def use_utf8(may_start_anew: Callable[[Path], bool]) -> None:
    """Start this process anew in Python's UTF-8 mode where the locale has another encoding (`LC_ALL=C`).

    In such a locale Python takes the letters of a name apart: the name cannot be written into a text file, sent to a
    tracker or compared with what another run has written. All processes that this one starts have the mode too.
    Windows has UTF-8 names already.

    Args:
        may_start_anew: Whether this process, by the file of its program, may be started anew: a program that only
            calls us may not.
    """
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    allowed = program is not None and may_start_anew(Path(program).resolve())
    if os.name != "posix" or not allowed or sys.getfilesystemencoding() == "utf-8" or os.environ.get(VARIABLE) == "1":
        return
    os.environ[VARIABLE] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def print_anything() -> None:
    """Let a letter that the terminal's encoding does not have be printed as its code, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
