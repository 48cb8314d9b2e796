"""The losses of the steps that were taken, read from the device when they are asked for."""

import math
from collections.abc import Sequence

from torch import Tensor


class NonFiniteLoss(Exception):
    """The loss, or a weight after it, became NaN or infinite."""


class SeenLosses:
    """Every step's loss, looked at without making the device wait at every step.

    On the CPU a loss is read as it comes, before the weights are touched by it. On another device it stays there until
    `read`, which is called when logging is due, and before anything is evaluated or saved.

    Attributes:
        mean: Running mean over about twenty of those that were read; NaN before the first.
        epoch: Sum and number of those of the epoch that were read, one for each optimizer step.
    """

    def __init__(self) -> None:
        self.mean = float("nan")
        self.epoch = (0.0, 0)
        self._latest: tuple[int, float] | None = None
        self._unread: list[tuple[Tensor, Tensor, int, Sequence[str]]] = []

    def add(self, loss: Tensor, step: int, names: Sequence[str], own: Tensor | None = None) -> None:
        """Take a scalar, with its step and the names of this device's frames.

        Args:
            loss: Over all devices.
            step: The optimizer step.
            names: Of this device's frames.
            own: What these frames add to the loss; None: they are all of it.

        Raises:
            NonFiniteLoss: As `read` does; on the CPU alone.
        """
        self._unread.append((loss.detach(), loss.detach() if own is None else own.detach(), step, names))
        if not self._waits(loss):
            self.read()

    def read(self) -> None:
        """Wait for the device, and look at the losses since the last time.

        Raises:
            NonFiniteLoss: One is NaN or infinite; names the first such step and its frames.
        """
        unread, self._unread = self._unread, []
        for loss, own, step, names in unread:
            value = loss.item()
            if not math.isfinite(value):
                frames = "frames of another device" if math.isfinite(own.item()) else f"frames {', '.join(names)}"
                raise NonFiniteLoss(
                    f"the loss is {value} at step {step} ({frames}): lower optimizer.lr, or look at "
                    "these frames; the checkpoints of the epochs before are kept"
                )
            self._count(step, value)
            self.mean = value if self.mean != self.mean else 0.95 * self.mean + 0.05 * value

    def end_epoch(self) -> float:
        """The mean over the epoch, which ends here; NaN if it has no step."""
        self.read()
        (total, count), self.epoch, self._latest = self.epoch, (0.0, 0), None
        return total / count if count else float("nan")

    def _count(self, step: int, value: float) -> None:
        """Of several parts of a global batch, the last one has the loss of all of it."""
        total, count = self.epoch
        if self._latest and self._latest[0] == step:
            total, count = total - self._latest[1], count - 1
        self.epoch, self._latest = (total + value, count + 1), (step, value)

    @staticmethod
    def _waits(loss: Tensor) -> bool:
        return loss.device.type != "cpu"
