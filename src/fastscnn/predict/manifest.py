"""The manifest of a folder of predictions: a second call continues its own and never mixes in others."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import disk_is_full, remove, replaced
from fastscnn.utils.image_files import ImageFileError
from fastscnn.utils.names import portable
from fastscnn.utils.plain_files import read_json
from fastscnn.utils.signals import Interrupted
from fastscnn.utils.values import check_switch

NAME = "predict.json"
"""The file of the manifest. Files that are older than it do not belong to it."""


class Input(NamedTuple):
    """An input and its outputs.

    Attributes:
        name: A name that no other input of the folder has, such as the beginning of its outputs' names.
        path: Its file.
        targets: Its outputs: files, or folders.
    """

    name: str
    path: Path
    targets: Sequence[Path]


@dataclass
class Outcome:
    """The outcome of a prediction.

    Attributes:
        done: Inputs that were predicted now.
        there: Inputs that were predicted before.
        failed: Input to the reason why it failed.
        stopped: Why the remaining inputs were given up; None if they were not.
    """

    done: int = 0
    there: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None

    def count(self, path: Path, error: Exception | None) -> bool:
        """Count one input, with its error if it failed; returns whether others can still be written."""
        if error is None:
            self.done += 1
            return True
        self.failed[str(path)] = error.problem if isinstance(error, ImageFileError) else str(error)
        if disk_is_full(error):
            self.stopped = str(error)
        return self.stopped is None


@contextmanager
def progress_in_the_message(outcome: Outcome, left: int, *, overwrite: bool) -> Iterator[None]:
    """Add to a Ctrl-C, or another signal that ends the work, how much is done and how to continue."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as stop:
        how = "the same command without overwrite=true" if overwrite else "the same command"
        stop.add_note(f"{outcome.done} done; {how} goes on with the other {left - outcome.done}.")
        raise


class Manifest:
    """The checkpoint, the settings and the inputs that the predictions of a folder were made with.

    Args:
        output: The folder of predictions; made where there is none.
        settings: The settings that they are made with. `checkpoint` is the path of the weights, `digest` their content.
        classes: The classes of the labels; for readers of the predictions.
        overwrite: Whether the folder may hold predictions of other settings, which are then replaced.

    Attributes:
        since: The time at which these settings began here, nanoseconds; older files are not theirs.
        folders: The input folders so far.
        inputs: Each input's name to the state of its file when it was predicted: `path`, `size`, `mtime_ns`, `inode`.

    Raises:
        RequestError: The output holds predictions of another checkpoint or other settings.
        WriteError: It cannot be written.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], classes: ClassTable, *, overwrite: bool) -> None:
        check_switch("overwrite", overwrite)
        self.output = output
        self.path = output / NAME
        before = {} if overwrite else _read(self.path)
        for key, value in settings.items():
            if before and key != "checkpoint" and before.get(key) != value:
                what = _of_other(key, before)
                raise RequestError(
                    f"output={output} holds predictions of {what}.",
                    key="output",
                    fix="Name another folder, or set overwrite=true to make them anew.",
                )
        self.folders: list[str] = before.get("folders", [])
        self.inputs: dict[str, Any] = before.get("inputs", {})
        table = [
            {"train_id": train_id, "file_value": value, "name": name, "color": list(color)}
            for train_id, (value, name, color) in enumerate(
                zip(classes.file_values, classes.names, classes.colors, strict=True)
            )
        ]
        self.content = before or {**settings, "folders": self.folders, "classes": table}
        self.since = self.path.stat().st_mtime_ns if before else None
        if not before:
            self._write()
            self.since = self.path.stat().st_mtime_ns

    def add_folder(self, folder: Path) -> None:
        """Add an input folder; the manifest keeps its time."""
        self.folders.append(portable(folder.resolve()))
        self.content["folders"] = self.folders
        self._write()

    def begin(self, inputs: Iterable[Input]) -> None:
        """Record the state of the inputs before they are read, so that a kill loses nothing.

        Outputs of a file that has changed since are removed first, so that they are not taken for those of the new one.
        """
        changed = False
        for each in inputs:
            for target in each.targets:
                if self.holds(target) and not self.has(target, each):
                    remove(target)
            now = _state(each.path)
            if now is not None and self.inputs.get(portable(each.name)) != now:
                self.inputs[portable(each.name)] = now
                changed = True
        if changed:
            self.content["inputs"] = self.inputs
            self._write()

    def missing(self, each: Input) -> list[Path]:
        """The targets of an input that are still to be made."""
        return [target for target in each.targets if not self.has(target, each)]

    def holds(self, target: Path) -> bool:
        """Whether a target exists that was made with these settings, from any input."""
        try:
            return target.stat().st_mtime_ns >= (self.since or 0)
        except OSError:
            return False

    def has(self, target: Path, each: Input) -> bool:
        """Whether a target was made with these settings from an input of the same size, time and inode.

        Manifests of earlier versions hold no inputs: there, the target must be newer than its input.
        """
        before, now = self.inputs.get(portable(each.name)), _state(each.path)
        if now is None or not self.holds(target):
            return False
        return bool(before == now if before else target.stat().st_mtime_ns >= now["mtime_ns"])

    def _write(self) -> None:
        with replaced(self.path) as target:
            target.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")
            if self.since is not None:
                os.utime(target, ns=(self.since, self.since))


def digest(path: Path) -> str:
    """SHA-256 of a checkpoint: of its file, or of all files of its folder; of an OpenVINO file with its weights."""
    total = hashlib.sha256()
    beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    for file in sorted(path.rglob("*")) if path.is_dir() else [path, *beside]:
        if file.is_file():
            total.update(file.read_bytes())
    return total.hexdigest()


def _of_other(key: str, before: Mapping[str, Any]) -> str:
    """What predictions are of, where a setting is another than that of their manifest, as part of a sentence."""
    if key == "digest":
        return "another checkpoint, or of this one before it was changed"
    if key not in before:
        return f"an earlier version, which did not have {key}"
    return f"{key}={'null' if before[key] is None else before[key]}"


def _read(path: Path) -> dict[str, Any]:
    """The content of a manifest; empty if there is none, or it cannot be read: everything is then predicted anew."""
    try:
        content = read_json(path)
        _check(content)
    except OSError:
        return {}
    except ValueError as error:
        print(f"{path} cannot be read ({error}): everything is predicted anew.", file=sys.stderr)
        return {}
    manifest: dict[str, Any] = content
    return manifest


def _check(content: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError("it is not a manifest")
    folders, inputs = content.get("folders", []), content.get("inputs", {})
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ValueError(f"its folders are {json.dumps(folders)[:40]}")
    if not isinstance(inputs, dict):
        raise ValueError(f"its inputs are {json.dumps(inputs)[:40]}")


def _state(path: Path) -> dict[str, Any] | None:
    """The state of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    where = portable(_resolved(path.parent) / path.name)
    return {"path": where, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "inode": found.st_ino}


@lru_cache
def _resolved(folder: Path) -> Path:
    return folder.resolve()
