"""The Weights & Biases run of a training run."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastscnn.runs.record import STEP
from fastscnn.utils.errors import RequestError

if TYPE_CHECKING:
    from wandb import Run

ENVIRONMENT = {
    "WANDB_SILENT": "true",
    "WANDB_INIT_TIMEOUT": "30",  # seconds to wait for a server; after that the run is written offline
    "WANDB_FINISH_TIMEOUT": "8",  # seconds for the last upload: everything else is sent during the run
    "WANDB_FINISH_TIMEOUT_RAISES": "true",
    # Telemetry prints its failures after the last line of the run, and waits ten seconds for a server that hangs.
    "WANDB_ERROR_REPORTING": "false",
}
"""Values of W&B's environment variables that the user has not set."""


def wandb_config(resolved: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """The W&B config: the full config under `config`, and the flat identity beside it.

    A sweep locks each key that it sweeps. Keeping the groups' options (`data: fine`) flat and the full config
    apart lets both arrive.
    """
    return {"config": dict(resolved), **identity}


@contextmanager
def tracked(
    folder: Path,
    *,
    run_id: str,
    name: str,
    group: str,
    tags: list[str],
    config: Mapping[str, Any],
    resume: bool = False,
    **further: Any,
) -> Iterator["Run"]:
    """Open a W&B run that ends with this block, as failed if the block does.

    With `resume` the run of this id goes on where it ended. Offline that is another folder of the same id in
    `wandb/`, and `wandb sync` sends them one after the other, as one run. `further` are `project`, `entity` and
    whatever else `wandb.init` takes.

    It is online where there is a key and the server takes it, else offline, without a question; `WANDB_MODE`
    decides if it is set. A line says where the run is, and why if it is offline.

    The x axis of every metric is `trainer/global_step`. W&B's own maximum of a metric begins anew in each session of a
    resumed run: the best is written by `reporting.summarize`, from the run's record.

    Raises:
        RequestError: W&B does not take its project, entity or an environment variable.
        TimeoutError: The last data did not arrive in time.
        RuntimeError: Another W&B run is open in this process: its metrics would be mixed with this one's.
    """
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    import wandb

    if wandb.run is not None:
        raise RuntimeError(
            f"the W&B run {wandb.run.id} is still open in this process: finish it before another run starts"
        )
    run = _start(
        dir=str(folder),
        id=run_id if resume else os.environ.get("WANDB_RUN_ID") or run_id,
        resume="allow" if resume else None,
        name=name,
        group=group,
        tags=tags,
        config=dict(config),
        **further,
    )
    exit_code = 1
    try:
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        yield run
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)


def _start(**settings: Any) -> "Run":
    import wandb
    from pydantic import ValidationError  # W&B checks its settings with it

    try:
        run, reason = _init(settings)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "_".join(map(str, wrong["loc"]))
        raise RequestError(
            f"W&B does not accept {name}={wrong['input']}: {wrong['msg']}.",
            key=f"logger.wandb.{name}",
            fix=f"Change WANDB_{name.upper()} or logger.wandb.{name}.",
        ) from None
    except wandb.errors.UsageError as error:
        fix = "Change logger.wandb.project, logger.wandb.entity or WANDB_RUN_ID."
        raise RequestError(f"W&B: {error}.", key="logger.wandb.project", fix=fix) from None
    if run.offline:
        folders = shlex.quote(run.sync_dir)
        if settings["resume"]:  # this folder and the earlier ones of the same run
            folders = f"{shlex.quote(str(Path(run.sync_dir).parent))}/offline-run-*-{run.id}"
        print(f"W&B: offline ({reason}). Send the run later: wandb sync {folders}")
    elif not run.disabled:
        print(f"W&B: {run.url}")
    return run


def _init(settings: dict[str, Any]) -> tuple["Run", str]:
    """The open run, and why it is offline if it is."""
    import wandb

    general = wandb.setup().settings
    mode: Any = settings.pop("mode", None) or general.mode
    if mode not in ("online", "run"):
        return wandb.init(mode=mode, **settings), "as asked"
    reason = "no key; wandb login stores one"
    try:
        if wandb.login(prompt=False, verify=False):
            return wandb.init(mode="online", **settings), ""
    except wandb.errors.CommError as error:
        cause = str(error).partition("\n")[0]
        reason = f"{general.base_url}: {cause}; check the key (wandb login), logger.wandb.entity and the network"
        wandb.teardown()  # W&B's service still holds the run's id
    return wandb.init(mode="offline", **settings), reason
