"""This process, for the record: its command, versions and git commit, and the machine that it runs on."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from fastscnn.runs.command_line import this_command

RUN_DIR_VARIABLE = "FASTSCNN_RUN_DIR"
"""Names the run's folder to the other processes of a distributed run, which start from the same command line."""
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
    """The `command` of this process, the `versions` of its libraries, and the `git` commit of this project."""
    return {"command": this_command(), "versions": _versions(), "git": _git()}


def process_place() -> dict[str, Any]:
    """Where this process runs: `host`, `pid`, and `boot`, which all containers of one machine share.

    Host and process number are for people: another container has other names for them, and numbers are reused.
    """
    return {"host": platform.node(), "pid": os.getpid(), "boot": boot_id()}


def boot_id() -> str | None:
    """An identifier of this boot of the system, the same in all containers of a machine; None except on Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def version_of(package: str) -> str:
    """The installed version of a package, or `not installed`: this project also runs from its folder."""
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
