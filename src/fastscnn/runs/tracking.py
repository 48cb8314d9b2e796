"""One Weights & Biases run for one run of ours."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb import Run


def choose_mode() -> str:
    """`online` where there is a key, `offline` where there is none; `WANDB_MODE` decides if it is set.

    Never asks on the terminal.
    """
    import wandb

    if mode := os.environ.get("WANDB_MODE"):
        return {"dryrun": "offline", "run": "online"}.get(mode, mode)
    with contextlib.suppress(Exception):  # no network, a malformed key: the run is kept offline
        if wandb.login(prompt=False, verify=False):
            return "online"
    return "offline"


def wandb_config(resolved: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """What is logged as the W&B config: the full config under `config`, and the flat identity beside it.

    A sweep locks each key that it sweeps. Keeping the groups' options (`data: fine`) flat and the full config
    apart lets both arrive.
    """
    return {"config": dict(resolved), **identity}


@contextlib.contextmanager
def tracked(
    folder: Path,
    *,
    run_id: str,
    name: str,
    group: str,
    tags: list[str],
    config: Mapping[str, Any],
    project: str,
    entity: str | None = None,
) -> Iterator["Run"]:
    """Open a W&B run that ends with this block, as failed if the block does.

    The summary of `val/miou` is its maximum, and the x axis of every metric is `trainer/global_step`.

    Raises:
        RuntimeError: Another W&B run is open in this process: its metrics would be mixed with this one's.
    """
    import wandb

    if wandb.run is not None:
        raise RuntimeError(
            f"the W&B run {wandb.run.id} is still open in this process: finish it before another run starts"
        )
    settings: dict[str, Any] = {
        "project": project,
        "entity": entity,
        "dir": str(folder),
        "id": os.environ.get("WANDB_RUN_ID", run_id),
        "name": name,
        "group": group,
        "tags": tags,
        "config": dict(config),
        "settings": wandb.Settings(silent=True, init_timeout=60),
    }
    mode = choose_mode()
    try:
        run = wandb.init(mode=mode, **settings)  # type: ignore[arg-type]
    except wandb.errors.CommError as error:
        print(f"W&B cannot be reached ({error}): this run is kept offline; send it later with wandb sync.")
        run = wandb.init(mode="offline", **settings)
    exit_code = 1
    try:
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        run.define_metric("val/miou", step_metric="trainer/global_step", summary="max")
        yield run
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)
