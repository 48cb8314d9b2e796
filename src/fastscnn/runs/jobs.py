"""The jobs of a multirun: the group that they share, and what each says of itself in a file."""

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
"""Environment variable that tells the jobs, in whatever process a launcher starts them, of their multirun."""
DONE, FAILED, WRONG_REQUEST = 0, 1, 2
RUNNING = "running now"
"""Why a job is skipped that another call is running."""


@dataclass(frozen=True)
class Multirun:
    """What the jobs of one multirun share.

    Attributes:
        folder: Hydra's folder of this call, which also receives what became of each job, `job-N.json`.
        group: Their W&B group: the swept settings, and a digest of everything asked for; the same when the
            multirun is called again.
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
        keys = ",".join(swept)[:100].rstrip(",") or "jobs"
        return cls(folder, f"{keys}-{digest}", swept)


@dataclass
class Job:
    """One job, as `job-N.json` keeps it.

    Attributes:
        number: Its place in the multirun.
        overrides: What sets it apart from the others.
        status: `running`, `finished`, `continued` (and finished), `skipped`, `interrupted` by a signal, `failed` or
            `stopped`.
        code: The exit code that it stands for.
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
        """Let `keep_folder` know of this job within this block."""
        global _job
        _job = self
        self.keep()
        try:
            yield
        finally:
            _job = None
            self.release()
            if self._file:
                self._file.release()

    def claim(self, path: Path) -> None:
        """Be the only one that looks whether this job is to be done, and starts it, until its run is open.

        Two multiruns that are called in the same moment would both find that it was not.

        Args:
            path: A file that stands for what the job asks for, in a folder that is made.
        """
        with contextlib.suppress(NoLocks):
            while self._claim is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # another has just removed the folder
                    self._claim = take(path)
                    if self._claim is None:
                        print(f"{self.label}: another call is starting it, which this one waits for", flush=True)
                        self._claim = take(path, wait=None)

    def release(self) -> None:
        """Give the claim back."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release(remove=True)
            with contextlib.suppress(OSError):
                claim.path.parent.rmdir()

    def keep(self, **changes: Any) -> None:
        """Change what is known of the job, and write it where the multirun reads it.

        Of the tasks of one cluster job, the first writes.
        """
        for name, value in changes.items():
            setattr(self, name, value)
        multirun = current_multirun()
        if multirun and os.environ.get("SLURM_PROCID", "0") == "0":
            self._write(multirun.folder / f"job-{self.number}.json")

    def _write(self, path: Path) -> None:
        """Write what is known of the job, also on a disk that is full since it began."""
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
"""Jobs of this process whose files could not be written, by number: the summary knows of them."""


def keep_folder(folder: Path) -> None:
    """Keep the folder of the run that the job going on has opened, if there is such a job."""
    if _job is not None:
        _job.keep(folder=str(folder))


def release_claim() -> None:
    """Let others see the run that the job going on has opened, now that its config says what it is."""
    if _job is not None:
        _job.release()


def current_multirun() -> Multirun | None:
    """The multirun that this process starts or works for."""
    if VARIABLE not in os.environ:
        return None
    told = json.loads(os.environ[VARIABLE])
    return Multirun(Path(told["folder"]), told["group"], tuple(told["swept"]))


def current_job() -> Job | None:
    """The job of a multirun that Hydra is running, or None in a single run."""
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
