"""Where a run is within an epoch, as Lightning's loops read it from a checkpoint."""

from typing import Any, Literal

Place = Literal["batch", "validation", "epoch"]
"""Where a checkpoint is saved: before a batch, within a validation, or between two epochs."""


def settle(loop: dict[str, Any], place: Place) -> None:
    """Make the counters of a checkpoint's `fit_loop` those of work that is done, from which the run goes on exactly.

    A batch or an epoch that is ready and not begun is taken back, and a validation that is going on begins anew: it is
    short, and nothing of it is logged before its end.
    """
    batches = loop["epoch_loop.batch_progress"]
    for counters in (batches["total"], batches["current"]):
        counters |= dict.fromkeys(("ready", "started", "processed"), counters["completed"])
    epochs = loop["epoch_progress"]
    if place == "epoch" or (place == "batch" and not batches["current"]["completed"]):
        for counters in (epochs["total"], epochs["current"]):
            counters |= dict.fromkeys(("ready", "started"), counters["processed"])
            counters["completed"] = counters["processed"]
    if place == "validation":  # begun, and no frame of it done: Lightning goes back to it
        frames = loop["epoch_loop.val_loop.batch_progress"]
        frames["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        frames["current"] = dict.fromkeys(frames["current"], 0)
        frames["is_last_batch"] = False


def rescale(loop: dict[str, Any], before: int, now: int) -> None:
    """Count the batches of the epoch that is going on anew, where a step has another number of them than before."""
    current = loop["epoch_loop.batch_progress"]["current"]
    current |= {name: count * now // before for name, count in current.items()}
