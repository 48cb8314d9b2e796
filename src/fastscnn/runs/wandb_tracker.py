"""W&B as the tracker of a run, whose failures never stop the run."""

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger

from fastscnn.runs.identity import Identity
from fastscnn.runs.media import KEEPS_MODEL
from fastscnn.runs.offline import set_aside_empty
from fastscnn.runs.record import METRICS, RunRecord
from fastscnn.runs.run_settings import recipe
from fastscnn.runs.tracker import Tracker
from fastscnn.runs.tracking import ENVIRONMENT, tracked, wandb_config
from fastscnn.utils.targets import OF_HYDRA

OF_THE_LOGGER = ("log_model", "prefix", "checkpoint_name", "add_file_policy")
"""Arguments that Lightning's logger keeps; it hands the others to `wandb.init`."""


def wandb_tracker(config: DictConfig, node: Mapping[str, Any], record: RunRecord, identity: Identity) -> Tracker:
    """W&B's logger for a run, inside a `Tracker`; its id is recorded when it is open.

    Args:
        config: The run's.
        node: The logger's own settings: arguments of `WandbLogger`, and any other of `wandb.init`.
        record: The run's.
        identity: Name, group and tags of the W&B run, where the node has none.
    """
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    own = {name: value for name, value in node.items() if name in OF_THE_LOGGER}
    further = {name: value for name, value in node.items() if name not in (*OF_THE_LOGGER, *OF_HYDRA)}
    if further.pop("offline", False):
        further["mode"] = "offline"
    keeps_model = own.get("log_model") is True
    if keeps_model:
        own["log_model"] = False
    settings = {
        "name": f"{identity.title(config.get('seed'))} {record.data['id']}",
        "job_type": identity.job_type,
        "group": identity.group or identity.name,
        "tags": identity.tags,
        **further,
    }
    run_id, known = record.data["id"], record.data["wandb_id"]
    flat = {**identity.flat(config.get("seed")), "recipe": recipe(record.data.get("settings") or {})}

    @contextlib.contextmanager
    def logger() -> Iterator[Logger]:
        with tracked(
            record.folder,
            run_id=known or run_id,
            config=wandb_config(resolved, flat),
            resume=known is not None,
            **settings,
        ) as run:
            record.update(wandb_id=None if run.disabled else run.id)
            opened = WandbLogger(experiment=run, **own)
            setattr(opened, KEEPS_MODEL, keeps_model)
            yield opened

    return Tracker(
        "W&B",
        WandbLogger,
        logger,
        abandon=abandon,
        advice=lambda: how_to_send(record.folder),
        ping=lambda logger: logger.experiment.status(),  # type: ignore[attr-defined]
    )


def finish_seconds() -> float:
    """How long the end of a run waits for W&B: `WANDB_FINISH_TIMEOUT`, and two seconds more for W&B's answer."""
    try:
        return float(os.environ["WANDB_FINISH_TIMEOUT"]) + 2
    except (KeyError, ValueError):
        return float(ENVIRONMENT["WANDB_FINISH_TIMEOUT"]) + 2


def how_to_send(folder: Path) -> str:
    """The command that sends what W&B has stored on disk for the run of a folder."""
    set_aside_empty(folder)
    places = sorted(file.parent for kind in ("run", "offline-run") for file in folder.glob(f"wandb/{kind}-*/*.wandb"))
    if not places:
        return f"{folder / METRICS} holds all of it."
    wanted = " ".join(shlex.quote(str(place)) for place in places)
    return f"{folder / METRICS} holds all of it. Send what is on disk: wandb sync --include-online {wanted}"


def abandon() -> None:
    """End W&B's service process, which is dead or does not answer, so that nothing waits for it.

    At the end of this process W&B would wait for it without limit. The next run starts a new service process.
    """
    import wandb

    for process in service_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    if wandb.run is not None:  # its `finish` failed
        _close_half_finished_run()
    with contextlib.suppress(Exception):  # W&B raises because the service is gone
        wandb.teardown()


def service_processes() -> list[int]:
    """The service process that W&B has started for this process.

    W&B stores it under names that it does not document. If a version of W&B uses other names, it is the child process
    whose program is W&B's, on Linux.
    """
    from wandb.sdk import wandb_setup

    try:
        return [wandb_setup._singleton._connection._proc._process.pid]  # type: ignore[union-attr]
    except AttributeError:  # it was not started, or was started by another process, or the names are others
        return [process for process in _children() if "wandb" in _program(process)]


def _close_half_finished_run() -> None:
    """Restore this process's output, and reset `wandb.run`, as far as the version of W&B has these names."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.run._console_stop()  # type: ignore[union-attr]
    with contextlib.suppress(Exception):
        from wandb.sdk.lib import module

        module.unset_globals()  # type: ignore[no-untyped-call]


def _children() -> list[int]:
    try:
        tasks = [path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")]
    except OSError:
        return []
    return [int(number) for task in tasks for number in task.split()]


def _program(process: int) -> str:
    try:
        return Path(os.fsdecode(Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0])).name
    except OSError:
        return ""
