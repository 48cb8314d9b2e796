"""A run's record, `run.json`: complete and correct at every moment, even after a crash."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastscnn.runs import slurm
from fastscnn.runs.alive import DEAD_AFTER_SECONDS, LOCK, is_alive
from fastscnn.runs.folders import make_folder, unwritable
from fastscnn.runs.process import describe_process, process_place
from fastscnn.runs.record_file import read_record_file
from fastscnn.runs.studies import OF_USERS, STUDIES, on_disk, with_study
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import not_written, plain_json, remove, remove_leftovers, why_not_written
from fastscnn.utils.locks import Lock, NoLocks, is_held, take
from fastscnn.utils.reserve import ReservedFile
from fastscnn.utils.signals import Interrupted
from fastscnn.utils.text import one_line

RECORD = "run.json"
METRICS = "metrics.csv"
STEP = "trainer/global_step"
"""The x of every metric: a column of `metrics.csv`."""
BEST, LAST = Path("checkpoints/best.ckpt"), Path("checkpoints/last.ckpt")
HEARTBEAT_SECONDS = 20.0
LOCK_WAIT_SECONDS = 2.0
"""How long a process that only checks a lock may hold it."""


class RunRecord:
    """The record of one run, stored in the run's folder.

    While the run is alive, its process holds the lock `run.lock`, and a thread touches `run.json` every 20 seconds for
    readers that cannot read the lock. So a run that was killed, whose `status` is still `running`, can be distinguished
    from a living one; see `read_record`. Disk space for the last state is reserved in advance, so that a full disk does
    not lose it.

    Attributes:
        folder: The run's folder, made by `create`, which never uses an existing one.
        data: The content of `run.json`.
    """

    def __init__(self, folder: Path, data: dict[str, Any], lock: Lock | None) -> None:
        self.folder = folder
        self.data = data
        self._file = ReservedFile(folder / RECORD)
        self._run_lock = lock
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
        further: Mapping[str, Any] | None = None,
    ) -> "RunRecord":
        """Make the folder and its first record, `running`, and start the heartbeat; `further` are keys of it.

        Raises:
            RequestError: The folder exists already, or cannot be made or written.
        """
        make_folder(folder)
        record = None
        try:
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
                    **(further or {}),
                    "started": _now(),
                    "finished": None,
                    **describe_process(),
                    "device": None,
                    "metrics": {"best": {}, "last": {}},
                    "checkpoints": {"best": None, "last": None},
                    "wandb_id": None,
                    "slurm_job": slurm.job_id(),
                    **process_place(),
                },
                _locked(folder),
            )
            record._live()
        except OSError as error:
            if record and record._run_lock:
                record._run_lock.release()
            remove(folder)
            raise unwritable(folder, error) from None
        return record

    @classmethod
    def reopen(cls, folder: Path, **resumed: Any) -> "RunRecord":
        """Reopen the record of a run that ended, as `running`; `resumed` is added to its list of resumptions.

        Raises:
            RequestError: The run is running, or its folder cannot be written.
        """
        refuse_running(folder)
        lock = None
        try:
            lock = _locked(folder)
            data = read_record(folder) if lock is None else read_record_file(folder / RECORD)
            entry = {"time": _now(), **resumed, **describe_process(), "host": process_place()["host"]}
            record = cls(
                folder,
                data
                | {"status": "running", "error": None, "finished": None, "slurm_job": slurm.job_id()}
                | process_place()
                | {"resumed": [*data.get("resumed", []), entry]},
                lock,
            )
            remove_leftovers(folder)
            record._live()
        except OSError as error:
            if lock:
                lock.release()
            raise unwritable(folder, error) from None
        return record

    def update(self, **changes: Any) -> None:
        """Change keys of the record and write it: to a temporary file that then takes its place.

        Raises:
            OSError: It cannot be written; names the file and the reason.
        """
        with self._lock:
            self._join_studies()
            self.data |= changes
            self._file.write(self._bytes())

    def close(self, status: str, error: str | None = None) -> None:
        """Record the end of the run, stop the heartbeat and release the run's lock.

        A full disk does not lose the record. If it cannot be written at all, a sentence on stderr says so.
        """
        self._stop.set()
        with self._lock:
            self._join_studies()
            self.data |= {"status": status, "error": error, "finished": _now()}
            try:
                self._file.write_last(self._bytes())
            except OSError as problem:
                path = self.folder / RECORD
                print(
                    f"{path} cannot be written ({problem.strerror or problem}): it does not say that the run {status}.",
                    file=sys.stderr,
                )
        if self._run_lock:
            self._run_lock.release()

    def _join_studies(self) -> None:
        """Take over what others have written into the file meanwhile: studies of a multirun, a user's note and tags."""
        found = on_disk(self.folder / RECORD)
        if STUDIES in self.data:
            for study in found.get(STUDIES) or ():
                self.data[STUDIES] = with_study(self.data[STUDIES], study)
        self.data |= {key: found[key] for key in OF_USERS if key in found}

    def _bytes(self) -> bytes:
        return (json.dumps(plain_json(self.data), indent=2) + "\n").encode()

    def _live(self) -> None:
        """Reserve disk space for the last state, write the record and start the heartbeat."""
        self._file.take()
        self.update()
        threading.Thread(target=self._beat, daemon=True, name="run-heartbeat").start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.folder / RECORD)


@contextlib.contextmanager
def recorded(record: RunRecord) -> Iterator[RunRecord]:
    """Close the record however the block ends: `finished`, `interrupted` by a signal, or `failed` with the error."""
    try:
        yield record
    except Interrupted as stop:
        record.close("interrupted", str(stop))
        raise
    except BaseException as error:
        record.close("failed", _reason(error))
        raise
    record.close("finished")


def read_record(folder: Path) -> dict[str, Any]:
    """Read a run's record; `status` is `failed` if the record says `running` but the run is dead.

    A run is dead when no process holds its lock; `is_alive` says what decides where the lock does not.

    Raises:
        FileNotFoundError: The folder holds no record.
        DamagedFile: The record is damaged.
    """
    data = read_record_file(folder / RECORD)
    if data["status"] == "running" and not is_alive(folder, data, (folder / RECORD).stat().st_mtime):
        data = read_record_file(folder / RECORD)  # its process may have ended properly since the first reading
        if data["status"] == "running" and not is_alive(folder, data, (folder / RECORD).stat().st_mtime):
            data |= {"status": "failed", "error": "the process was killed"}
    return data


def observed_record(folder: Path) -> dict[str, Any]:
    """Read a run's record; if its lock does not show whether the run is alive, wait for its next heartbeat.

    A heartbeat comes every 20 seconds, and a run is dead two minutes after its last one.

    Raises:
        FileNotFoundError: The folder holds no record.
        DamagedFile: The record is damaged.
    """
    data, touched = read_record(folder), (folder / RECORD).stat().st_mtime
    while data["status"] == "running" and not is_held(folder / LOCK) and (folder / RECORD).stat().st_mtime == touched:
        time.sleep(0.2)
        data = read_record(folder)
    return data


def refuse_running(folder: Path) -> dict[str, Any]:
    """Read a run's record.

    Raises:
        RequestError: The run is running, or the record is damaged.
    """
    data = read_record(folder)
    if data["status"] == "running":
        raise _running(folder, data)
    return data


def running_as(data: Mapping[str, Any]) -> str:
    """The process of a running run: `process 12 on node7 since 2026-01-31T12:00:00+00:00`."""
    since = (data.get("resumed") or [{"time": data.get("started")}])[-1]["time"]
    return f"process {data.get('pid')} on {data.get('host')} since {since}"


def _reason(error: BaseException) -> str:
    if (unwritten := not_written(error)) is not None:
        return why_not_written(unwritten)
    text = one_line(str(error)) if isinstance(error, RequestError) else str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _locked(folder: Path) -> Lock | None:
    """The lock of a run's folder; None on a file system without locks, which a sentence on stderr then says.

    Raises:
        RequestError: Another process holds it.
    """
    try:
        lock = take(folder / LOCK, wait=LOCK_WAIT_SECONDS)
    except NoLocks as error:
        print(
            f"{folder} is on a file system without locks ({error.strerror}): only the heartbeat shows whether the run "
            f"is alive, and a killed run counts as running for {DEAD_AFTER_SECONDS:.0f} seconds.",
            file=sys.stderr,
        )
        return None
    if lock is None:
        raise _running(folder, read_record_file(folder / RECORD))
    return lock


def _running(folder: Path, data: Mapping[str, Any]) -> RequestError:
    return RequestError(
        f"resume={folder}: the run is running now, as {running_as(data)}.",
        key="resume",
        fix="Stop it first, or wait for its end.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
