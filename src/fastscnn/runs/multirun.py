"""The jobs of a multirun: the group they share, what became of each, and the summary at the end."""

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
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from fastscnn.errors import RequestError
from fastscnn.runs.record import RECORD, observed_record
from fastscnn.utils.files import check_writable, plain_json, why_not_written
from fastscnn.utils.locks import Lock, NoLocks, take
from fastscnn.utils.reserve import ReservedFile

VARIABLE = "FASTSCNN_MULTIRUN"
"""Environment variable that tells the jobs, in whatever process a launcher starts them, of their multirun."""
CARRYING_OUT = (
    "paths",
    "logger",
    "pictures",
    "resume",
    "rerun",
    "data.num_workers",
    "data.store",
    "data.max_pixels",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.sync_batchnorm",
    "trainer.compile",
    "trainer.log_every_n_steps",
    "trainer.save_every_minutes",
)
"""Settings of how a run is carried out and kept: two configs that differ in these alone ask for the same run.

One of them that a multirun sweeps counts there like any other setting.
"""
DONE, FAILED, WRONG_REQUEST = 0, 1, 2
RUNNING = "running now"
"""Why a job is skipped that another call is running."""
SHOWN = ("val/miou", "val/top1")
"""What the summary shows of a run, the first of them that it has."""


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
            if override.key_or_group in swept or not within(override.key_or_group, CARRYING_OUT)
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
            _unwritten.pop(self.number, None)
        except OSError as error:
            if self.number not in _unwritten:
                print(why_not_written(error), file=sys.stderr)
            _unwritten[self.number] = self


_job: Job | None = None
_unwritten: dict[int, Job] = {}
"""Jobs of this process whose files could not be written, by number: the summary knows of them."""


def keep_folder(folder: Path) -> None:
    """Keep the folder of the run that the job going on has opened, if there is such a job."""
    if _job is not None:
        _job.keep(folder=str(folder))


def release_claim() -> None:
    """Let others see the run that the job going on has opened, now that its config says what it is."""
    if _job is not None:
        _job.release()


class AnnounceMultirun(Callback):
    """Hydra callback: tells the jobs of their multirun before they start."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set the environment variable; ends the command where the folders of the jobs cannot be written."""
        try:
            check_writable(Path(config.paths.output_dir), "paths.output_dir")
            check_writable(Path(config.hydra.sweep.dir), "hydra.sweep.dir")
        except RequestError as error:  # of which Hydra would make a warning
            print(error, file=sys.stderr)
            sys.exit(WRONG_REQUEST)
        multirun = Multirun.of(config.hydra.overrides.task, Path(config.hydra.sweep.dir).resolve())
        os.environ[VARIABLE] = json.dumps(asdict(multirun) | {"folder": str(multirun.folder)})


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


def close_multirun() -> int | None:
    """Print what became of each job, the failed ones last; returns the exit code, or None without a multirun."""
    multirun = current_multirun()
    if multirun is None:
        return None
    del os.environ[VARIABLE]
    found = [Job(**json.loads(path.read_text(encoding="utf-8"))) for path in multirun.folder.glob("job-*.json")]
    by_number = {job.number: job for job in found} | _unwritten
    jobs = [by_number[number] for number in sorted(by_number)]
    _unwritten.clear()
    for job in jobs:
        if job.status == "running":
            job.status, job.reason = "failed", "its process was killed"
        elif job.reason == RUNNING:
            _look_again(job)
    if not jobs:
        return None
    print(f"\n{len(jobs)} job{'s' if len(jobs) > 1 else ''}, group {multirun.group}:")
    width = max(len(" ".join(job.overrides)) for job in jobs)
    for job in jobs:
        best = _best(job)
        print(f"{job.number:>3}  {' '.join(job.overrides):<{width}}  {job.status:<11}  {best:<15}  {job.folder or '-'}")
    sys.stdout.flush()
    wrong = [job for job in jobs if job.code != DONE]
    for job in wrong:
        print(f"{job.label} {job.status}: {job.reason}", file=sys.stderr)
    if wrong:
        print("Call the multirun again: it runs only what is not finished.", file=sys.stderr)
    codes = {job.code for job in wrong}
    return FAILED if FAILED in codes else WRONG_REQUEST if WRONG_REQUEST in codes else max(codes, default=DONE)


def within(key: str, settings: Sequence[str]) -> bool:
    """Whether a setting is one of these, or in one of these groups."""
    return any(key == setting or key.startswith(f"{setting}.") for setting in settings)


def _look_again(job: Job) -> None:
    """What became of a job that another call was running when it was this one's turn: it may have failed there."""
    try:
        record = observed_record(Path(job.folder or ""))
    except (OSError, ValueError, KeyError) as error:
        job.status, job.code, job.reason = "failed", FAILED, f"its run in another call is gone ({error})"
        return
    if record["status"] not in ("running", "finished"):
        job.status, job.code = "failed", FAILED
        job.reason = f"its run in another call {record['status']}: {record['error']}"


def _best(job: Job) -> str:
    try:
        metrics = json.loads((Path(job.folder or "") / RECORD).read_text(encoding="utf-8"))["metrics"]["best"]
    except (OSError, ValueError, KeyError):
        return "-"
    return next((f"{name} {metrics[name]:.4f}" for name in SHOWN if metrics.get(name) is not None), "-")
