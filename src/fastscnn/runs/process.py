"""This process: what it runs on, for the record, and which machine it belongs to."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from fastscnn.runs.command_line import this_command

RUN_DIR_VARIABLE = "FASTSCNN_RUN_DIR"
"""Tells the processes of a distributed run, which start from the same command line, the folder of the first."""
PACKAGES = (
    "fastscnn",
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "timm",
    "hydra-core",
    "wandb",
)


def describe_process() -> dict[str, Any]:
    """What this process is: `command`, `versions` of what it runs on, and the `git` commit of our code."""
    return {"command": this_command(), "versions": _versions(), "git": _git()}


def process_place() -> dict[str, Any]:
    """Where this process runs: `host`, `pid` and `boot`, the system that its containers have in common.

    Host and process number are for people: another container has other names for them, and numbers come back.
    """
    return {"host": platform.node(), "pid": os.getpid(), "boot": boot_id()}


def boot_id() -> str | None:
    """What tells this running system from every other, its own one after a restart included; None where none does.

    The same in all containers of a machine. Linux alone has it.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def version_of(package: str) -> str:
    """The version that is installed, or that it is not: our own code runs from its folder too."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _git() -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # an installed package may lie in a repository of its user's
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
