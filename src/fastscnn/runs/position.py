"""The place of a run within an epoch, as Lightning's loops store it in a checkpoint."""

from collections.abc import Mapping
from typing import Any, Literal

Place = Literal["batch", "validation", "epoch"]
"""Where a checkpoint is saved: before a batch, within a validation, or between two epochs."""
EPOCHS, BATCHES, VALIDATION = "epoch_progress", "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"
"""Names in the state of Lightning's `fit_loop`, which it documents nowhere."""


class UnknownLoops(Exception):
    """Lightning's loops have other names in this version, so that a place within an epoch cannot be stored."""


def position(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """How many epochs are done in a checkpoint of training, and how many batches of the next.

    If the loops have other names, the epochs are those that Lightning's own entry counts, and no batch of the next.

    Raises:
        KeyError: It is no checkpoint of training.
    """
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop[EPOCHS]["current"]
        done = epochs["processed"]
        begun = any(epochs.get(name, done) != done for name in ("ready", "started"))
        return done, loop[BATCHES]["current"]["processed"] if begun else 0
    except KeyError:
        return checkpoint["epoch"] + 1, 0


def settle(checkpoint: Mapping[str, Any], place: Place) -> None:
    """Make the counters of a checkpoint those of work that is done, from which the run goes on exactly.

    A batch or an epoch that is ready but not begun no longer counts, and an unfinished validation is repeated: it is
    short, and nothing of it is logged before its end.

    Raises:
        UnknownLoops: The loops have other names; the checkpoint is as it was.
    """
    try:
        loop = checkpoint["loops"]["fit_loop"]
        batches, epochs, frames = loop[BATCHES], loop[EPOCHS], loop[VALIDATION]
    except KeyError as error:
        raise UnknownLoops(f"Lightning's loops have no {error}") from None
    for counters in (batches["total"], batches["current"]):
        counters |= dict.fromkeys(("ready", "started", "processed"), counters["completed"])
    if place == "epoch" or (place == "batch" and not batches["current"]["completed"]):
        for counters in (epochs["total"], epochs["current"]):
            counters |= dict.fromkeys(("ready", "started"), counters["processed"])
            counters["completed"] = counters["processed"]
    if place == "validation":  # begun, and no frame of it done: Lightning goes back to it
        frames["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        frames["current"] = dict.fromkeys(frames["current"], 0)
        frames["is_last_batch"] = False


def rescale(checkpoint: Mapping[str, Any], before: int, now: int) -> None:
    """Convert the count of batches in the current epoch, if a step now has another number of batches than before."""
    progress = checkpoint["loops"]["fit_loop"].get(BATCHES)
    if progress is not None and before != now:
        progress["current"] |= {name: count * now // before for name, count in progress["current"].items()}
