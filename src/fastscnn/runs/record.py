"""A run's folder and its record: `run.json`, written atomically and true at any moment, also after a crash."""

import contextlib
import json
import math
import os
import platform
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from fastscnn.errors import RequestError

RECORD = "run.json"
METRICS = "metrics.csv"
STEP = "trainer/global_step"
"""The x of every metric: a column of `metrics.csv`."""
BEST, LAST = Path("checkpoints/best.ckpt"), Path("checkpoints/last.ckpt")
HEARTBEAT_SECONDS = 20.0
DEAD_AFTER_SECONDS = 120.0
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


class RunRecord:
    """The record of one run, kept in its folder.

    While the run lives, a thread touches `run.json` every 20 seconds, so that a reader can tell a run that was
    killed (`status` still `running`, no heartbeat) from a living one; see `read_record`.

    Attributes:
        folder: The run's folder; made by `create`, which never takes an existing one.
        data: What `run.json` holds.
    """

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder = folder
        self.data = data
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        run_id: str,
        name: str,
        choices: Mapping[str, str],
        seed: int,
        overrides: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> "RunRecord":
        """Make the folder and its first record, `running`, and start the heartbeat.

        Raises:
            RequestError: The folder exists already, or cannot be made.
        """
        make_folder(folder)
        record = cls(
            folder,
            {
                "id": run_id,
                "name": name,
                "group": group,
                "status": "running",
                "error": None,
                "choices": dict(choices),
                "overrides": dict(overrides or {}),
                "seed": seed,
                "started": _now(),
                "finished": None,
                **describe_process(),
                "device": None,
                "metrics": {"best": {}, "last": {}},
                "checkpoints": {"best": None, "last": None},
                "wandb_id": None,
                "host": platform.node(),
                "pid": os.getpid(),
            },
        )
        record._live()
        return record

    @classmethod
    def reopen(cls, folder: Path, **resumed: Any) -> "RunRecord":
        """Go on with the record of a run that ended: `running` again, and what is given is added to its `resumed`.

        Raises:
            RequestError: The run is running.
        """
        with FileLock(folder / ".hydra" / "resume.lock"):
            data = refuse_running(folder)
            entry = {"time": _now(), **resumed, **describe_process(), "host": platform.node()}
            record = cls(
                folder,
                data
                | {"status": "running", "error": None, "finished": None, "host": platform.node(), "pid": os.getpid()}
                | {"resumed": [*data.get("resumed", []), entry]},
            )
            record._live()
        return record

    def update(self, **changes: Any) -> None:
        """Change keys of the record and write it: to a temporary file that then takes its place."""
        with self._lock:
            self.data |= changes
            write_json(self.folder / RECORD, self.data)

    def close(self, status: str, error: str | None = None) -> None:
        """Record the end of the run and stop the heartbeat."""
        self._stop.set()
        self.update(status=status, error=error, finished=_now())

    def _live(self) -> None:
        """Write the record and start the heartbeat."""
        self.update()
        threading.Thread(target=self._beat, daemon=True, name="run-heartbeat").start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.folder / RECORD)


@contextlib.contextmanager
def recorded(record: RunRecord) -> Iterator[RunRecord]:
    """Close the record whatever happens inside: `finished`, or `failed` with the error's text."""
    try:
        yield record
    except BaseException as error:
        text = str(error).splitlines()[0] if str(error) else ""
        record.close("failed", f"{type(error).__name__}: {text}" if text else type(error).__name__)
        raise
    record.close("finished")


def read_record(folder: Path) -> dict[str, Any]:
    """Read a run's record; `status` is `failed` where the record says `running` but the run is dead.

    A run is dead when its process is gone from this host, or, on any host, when its heartbeat stopped two minutes
    ago.

    Raises:
        FileNotFoundError: The folder holds no record.
    """
    path = folder / RECORD
    data: dict[str, Any] = json.loads(path.read_text())
    if data["status"] == "running" and not _alive(data, path):
        data |= {"status": "failed", "error": "the process was killed"}
    return data


def refuse_running(folder: Path) -> dict[str, Any]:
    """Read a run's record.

    Raises:
        RequestError: The run is running.
    """
    data = read_record(folder)
    if data["status"] == "running":
        raise RequestError(
            f"resume={folder}: the run is running now, as process {data['pid']} on {data['host']}: stop it first, or "
            "wait for its end."
        )
    return data


def new_run_id() -> str:
    """Eight random characters, a run's own; also its W&B id."""
    return secrets.token_hex(4)


def run_folder(output_dir: Path, name: str, run_id: str) -> Path:
    """`OUTPUT_DIR/NAME/TIME-ID`, TIME in UTC to the microsecond."""
    return output_dir / name / f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S-%f}-{run_id}"


def refuse_existing(folder: Path) -> None:
    """Refuse a run's folder that is there.

    Raises:
        RequestError: It exists already.
    """
    if folder.exists():
        raise RequestError(
            f"paths.run_dir={folder} exists already and is never overwritten: choose another folder, or leave "
            "paths.run_dir out for a new one."
        )


def make_folder(folder: Path) -> None:
    """Make a run's folder.

    Raises:
        RequestError: It exists already, or cannot be made.
    """
    refuse_existing(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RequestError(
            f"paths.run_dir={folder} cannot be made ({error.strerror}): choose a folder you can write to."
        ) from None


def describe_process() -> dict[str, Any]:
    """What this process is: `command`, `versions` of what it runs on, and the `git` commit of our code."""
    return {"command": shlex.join(["python", *sys.argv]), "versions": _versions(), "git": _git()}


def version_of(package: str) -> str:
    """The version that is installed, or that it is not: our own code runs from its folder too."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whose reader never sees half of it: a temporary file takes its place."""
    temporary = path.with_suffix(".json.tmp")
    with temporary.open("w") as file:
        json.dump(plain_json(content), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _alive(data: Mapping[str, Any], path: Path) -> bool:
    if data["host"] == platform.node():
        try:
            os.kill(data["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    age = datetime.now(UTC).timestamp() - path.stat().st_mtime
    return age < DEAD_AFTER_SECONDS


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def plain_json(value: Any) -> Any:
    """Containers and numbers that JSON knows; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
