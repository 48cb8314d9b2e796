"""The jobs of a multirun: the group that they share, and the file in which each reports its status."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from fastscnn.runs.run_settings import EXECUTION_SETTINGS, in_settings
from fastscnn.utils.files import plain_json, why_not_written
from fastscnn.utils.locks import Lock, NoLocks, take
from fastscnn.utils.reserve import ReservedFile

VARIABLE = "FASTSCNN_MULTIRUN"
"""Environment variable that describes the multirun to its jobs, in whatever process a launcher starts them."""
DONE, FAILED, WRONG_REQUEST = 0, 1, 2
LONGEST = 48
"""Letters of a multirun's name before its digest: W&B takes tags of 64 letters."""
RUNNING = "running now"
"""The reason of a skipped job that another call is running."""


@dataclass(frozen=True)
class Multirun:
    """What the jobs of one multirun share.

    Attributes:
        folder: Hydra's folder of this call, which also receives the status of each job, `job-N.json`.
        group: Their W&B group: the swept settings and a digest of the whole command line; a second call of the same
            multirun has the same group.
        swept: The settings with several values.
    """

    folder: Path
    group: str
    swept: tuple[str, ...]

    @classmethod
    def of(cls, overrides: Sequence[str], folder: Path) -> "Multirun":
        """The multirun of a command line's overrides, `data=fine,fine_coarse`."""
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        swept = tuple(override.key_or_group for override in parsed if override.is_sweep_override())
        asked = sorted(
            str(override.input_line)
            for override in parsed
            if override.key_or_group in swept or not in_settings(override.key_or_group, EXECUTION_SETTINGS)
        )
        digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:8]
        keys = ",".join(swept)[:LONGEST].rstrip(",") or "jobs"
        return cls(folder, f"{keys}-{digest}", swept)


@dataclass
class Job:
    """One job, as `job-N.json` stores it.

    Attributes:
        number: Its place in the multirun.
        overrides: The overrides that distinguish it from the other jobs.
        status: `running`, `finished`, `continued` (and finished), `skipped`, `interrupted` by a signal, `failed` or
            `stopped`.
        code: Its exit code.
        reason: Why it was skipped, failed or stopped.
        folder: The folder of its run.
    """

    number: int
    overrides: list[str]
    status: str = "running"
    code: int = FAILED
    reason: str = ""
    folder: str | None = None

    def __post_init__(self) -> None:
        self._claim: Lock | None = None
        self._file: ReservedFile | None = None

    @property
    def label(self) -> str:
        """`job 0 (data=fine pretrain=none)`."""
        return f"job {self.number} ({' '.join(self.overrides)})"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Make this the job that `record_job_folder` and `release_claim` act on, inside this block."""
        global _job
        _job = self
        self.update()
        try:
            yield
        finally:
            _job = None
            self.release()
            if self._file:
                self._file.release()

    def claim(self, path: Path) -> None:
        """Lock this job while it is decided whether to run it, and until its run is open.

        Otherwise two multiruns that start at the same moment would both run it.

        Args:
            path: A file whose name identifies the job's settings; its folder is made.
        """
        with contextlib.suppress(NoLocks):
            while self._claim is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # another process has just removed the folder
                    self._claim = take(path)
                    if self._claim is None:
                        print(f"{self.label}: another call is starting it; waiting for that call", flush=True)
                        self._claim = take(path, wait=None)

    def release(self) -> None:
        """Release the lock."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release(remove=True)
            with contextlib.suppress(OSError):
                claim.path.parent.rmdir()

    def update(self, **changes: Any) -> None:
        """Change attributes of the job, and write them to the file that the multirun reads.

        In a cluster job with several tasks, only the first task writes.
        """
        for name, value in changes.items():
            setattr(self, name, value)
        multirun = current_multirun()
        if multirun and os.environ.get("SLURM_PROCID", "0") == "0":
            self._write(multirun.folder / f"job-{self.number}.json")

    def _write(self, path: Path) -> None:
        """Write the job's file, even if the disk has become full since the job began."""
        data = (json.dumps(plain_json(asdict(self)), indent=2) + "\n").encode()
        self._file = self._file or ReservedFile(path)
        try:
            try:
                self._file.write(data)
            except OSError:
                self._file.write_last(data)
            unwritten.pop(self.number, None)
        except OSError as error:
            if self.number not in unwritten:
                print(why_not_written(error), file=sys.stderr)
            unwritten[self.number] = self


_job: Job | None = None
unwritten: dict[int, Job] = {}
"""Jobs of this process whose files could not be written, by number; the summary reads them from here."""


def record_job_folder(folder: Path) -> None:
    """Store the folder of the run that the current job has opened, if there is a current job."""
    if _job is not None:
        _job.update(folder=str(folder))


def release_claim() -> None:
    """Release the current job's lock: its run is open, and its config tells other calls what it is."""
    if _job is not None:
        _job.release()


def current_multirun() -> Multirun | None:
    """The multirun that this process started or belongs to."""
    if VARIABLE not in os.environ:
        return None
    described = json.loads(os.environ[VARIABLE])
    return Multirun(Path(described["folder"]), described["group"], tuple(described["swept"]))


def current_job() -> Job | None:
    """The job of a multirun that Hydra is running; None in a single run."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    hydra = HydraConfig.get()
    multirun = current_multirun()
    overrides = list(hydra.overrides.task)
    swept = [text for text in overrides if multirun and text.lstrip("+").partition("=")[0] in multirun.swept]
    return Job(hydra.job.num, swept or overrides)


def jobs_share_a_process() -> bool:
    """Whether the jobs of a multirun run one after the other in one process, as Hydra's own launcher has it."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    launcher: str = HydraConfig.get().runtime.choices["hydra/launcher"]
    return launcher == "basic"


def searches() -> bool:
    """Whether this is a job of a search, which goes by what the job returns."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    sweeper: str = HydraConfig.get().runtime.choices["hydra/sweeper"]
    return sweeper != "basic"
