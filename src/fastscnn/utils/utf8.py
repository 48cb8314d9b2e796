"""UTF-8 whatever the locale says: in names of files, on the command line and in what is printed."""

import os
import sys
from pathlib import Path

VARIABLE = "PYTHONUTF8"


def use_utf8(folder: Path) -> None:
    """Start this process anew in Python's UTF-8 mode where the locale has another encoding (`LC_ALL=C`).

    In such a locale Python takes the letters of a name apart: the name cannot be written into a text file, sent to a
    tracker or compared with what another run has written. All processes that this one starts have the mode too.
    Windows has UTF-8 names already.

    Args:
        folder: Where the scripts are that may be started anew; within any other program nothing happens.
    """
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    ours = program is not None and Path(program).resolve().parent == folder
    if os.name != "posix" or not ours or sys.getfilesystemencoding() == "utf-8" or os.environ.get(VARIABLE) == "1":
        return
    os.environ[VARIABLE] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def print_anything() -> None:
    """Let a letter that the terminal's encoding does not have be printed as its code, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
