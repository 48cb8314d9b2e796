"""What made the predictions of a folder, so that a second call goes on with its own and never mixes in others."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastscnn.data.classes import ClassTable
from fastscnn.errors import RequestError
from fastscnn.inference.media import unfinished

NAME = "predict.json"
"""The note in a folder of predictions. What is older than the note was made by something else."""


@dataclass
class Outcome:
    """How a prediction went.

    Attributes:
        done: Inputs that were predicted now.
        there: Inputs that were there from before.
        failed: Input to the reason why it failed.
    """

    done: int = 0
    there: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def count(self, path: Path, error: Exception | None) -> None:
        """Note how one input went."""
        if error is None:
            self.done += 1
        else:
            self.failed[str(path)] = str(error)


@contextmanager
def told_when_stopped(outcome: Outcome, left: int, *, overwrite: bool) -> Iterator[None]:
    """Add to a Ctrl-C how far it got, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        how = "the same command without overwrite=true" if overwrite else "the same command"
        stop.add_note(f"{outcome.done} done; {how} goes on with the other {left - outcome.done}.")
        raise


class Note:
    """What made the predictions of a folder: the checkpoint and the settings.

    Args:
        output: The folder of predictions; made where there is none.
        settings: What makes them. `checkpoint` only says where the weights were, `digest` what they are.
        classes: What the labels mean; told to whoever reads the predictions.
        overwrite: Take over the folder, whatever is in it.

    Attributes:
        since: When these settings began here, nanoseconds; older files are not theirs.
        folders: The input folders so far.

    Raises:
        RequestError: The output is a file, or holds predictions of another checkpoint or other settings.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], classes: ClassTable, *, overwrite: bool) -> None:
        self.output = output
        self.path = output / NAME
        before = {} if overwrite else _read(self.path)
        for key, value in settings.items():
            if before and key != "checkpoint" and before.get(key) != value:
                what = "another checkpoint" if key == "digest" else f"{key}={before.get(key)}"
                raise RequestError(
                    f"output={output} holds predictions of {what}: name another folder, or set overwrite=true to "
                    "make them anew."
                )
        self.folders: list[str] = before.get("folders", [])
        table = [
            {"train_id": train_id, "file_value": value, "name": name, "color": list(color)}
            for train_id, (value, name, color) in enumerate(
                zip(classes.file_values, classes.names, classes.colors, strict=True)
            )
        ]
        self.content = before or {**settings, "folders": self.folders, "classes": table}
        if not before:
            self._write()
        self.since = self.path.stat().st_mtime_ns

    def add_folder(self, folder: Path) -> None:
        """Note one more input folder; the note keeps its time."""
        self.folders.append(str(folder.resolve()))
        self.content["folders"] = self.folders
        self._write()
        os.utime(self.path, ns=(self.since, self.since))

    def has(self, path: Path, source: Path) -> bool:
        """Whether a file was made by these settings, and after what it was made from was last changed."""
        try:
            return path.stat().st_mtime_ns >= max(self.since, source.stat().st_mtime_ns)
        except OSError:
            return False

    def _write(self) -> None:
        with unfinished(self.path) as target:
            target.write_text(json.dumps(self.content, indent=2) + "\n")


def check_output(output: Path) -> None:
    """Check that predictions can go there.

    Raises:
        RequestError: It is a file.
    """
    if output.exists() and not output.is_dir():
        raise RequestError(f"output={output} is a file: name a folder.")


def digest(path: Path) -> str:
    """SHA-256 of a checkpoint: of its file, or of all files of its folder."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(file.read_bytes())
    return total.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """A note that was kept; empty where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
