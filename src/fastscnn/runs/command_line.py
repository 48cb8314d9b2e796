"""Commands that a user can copy, quoted for the shell and for Hydra."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

TRAIN = Path("src/train.py")
INSTALLED = "fastscnn-train"
"""The same command of an installed package."""


def this_command() -> str:
    """The command line that started this process."""
    return shlex.join([*_interpreter(), *sys.argv])


def with_setting(key: str, value: str) -> str:
    """The command line that started this process, with one setting more or changed."""
    script, *arguments = sys.argv
    others = [argument for argument in arguments if not argument.startswith(f"{key}=")]
    return shlex.join([*_interpreter(), script, *others, f"{key}={value}"])


def train_command(overrides: Sequence[str]) -> str:
    """A `train.py` command with these overrides, with the interpreter and the path of the current command."""
    script = sys.argv[0]
    program = [*_interpreter(), script] if Path(script).name in (TRAIN.name, INSTALLED) else ["python", str(TRAIN)]
    return shlex.join([*program, *overrides])


def override(key: str, value: str) -> str:
    """One override whose value Hydra reads as exactly this text."""
    plain = "/" in value and all(letter.isalnum() or letter in "/._-" for letter in value)
    return f"{key}={value if plain else QuotedString(value, Quote.single).with_quotes()}"


def _interpreter() -> list[str]:
    """The words before the script, such as `python -u`."""
    words, arguments = sys.orig_argv, sys.argv
    before = len(words) - len(arguments)
    return words[:before] if before > 0 and words[before:] == arguments else ["python"]
