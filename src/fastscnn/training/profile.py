"""Where the time of a training step goes: `debug=profile`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from pytorch_lightning.profilers import Profiler
from rich.table import Table

from fastscnn.utils.files import write_json

PARTS = ("data", "forward", "loss", "backward", "optimizer", "logging")
REST = "logging"
PART_OF = {
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "transfer_batch_to_device": "data",
    "training_step": "forward",
    "loss": "loss",
    "backward": "backward",
    "optimizer_step": "optimizer",
    "optimizer_zero_grad": "optimizer",
    "configure_gradient_clipping": "optimizer",
    "lr_scheduler_step": "optimizer",
}
"""Lightning's names, and that of our own block, to parts; all that has no part here is `REST`."""
WAITING = 0.2
"""Share of a step that the device may wait for data before that is what limits: it computes nothing meanwhile."""


class StepProfiler(Profiler):
    """Splits the time of each training step among its parts, from the request for its batch to that for the next.

    Lightning says what it begins and ends. At each moment the innermost of these decides whose the time is, so that the
    parts of a step add up to the step.

    On a GPU the time is its own: marks in its queue say when it came there, so that nothing waits for it and a
    step is as fast as it is without the profiler. While its queue is full, waiting for data on the host costs nothing
    and shows as nothing.

    Args:
        clock: Makes a mark for this moment.
        between: Seconds from one mark to another; asked for when all is done.
    """

    def __init__(
        self, clock: Callable[[], Any] = time.perf_counter, between: Callable[[Any, Any], float] | None = None
    ) -> None:
        super().__init__()
        self._clock = clock
        self._between = between or (lambda first, second: float(second - first))
        self._within: list[str] = []
        self._steps: list[list[tuple[str | None, Any]]] = []
        self._open = False

    @classmethod
    def of(cls, device: str) -> "StepProfiler":
        """With the clock of a device, `cuda` or another."""
        return cls(_event, _between_events) if device == "cuda" else cls()

    def start(self, action_name: str) -> None:
        """Something begins; a step, when it is the next batch that is asked for."""
        name = action_name.rpartition(".")[2]
        if name == "train_dataloader_next":
            self._close()
            self._steps.append([])
            self._open = True
        self._within.append(PART_OF.get(name, REST))
        self._mark()

    def stop(self, action_name: str) -> None:
        """Something ends; the step too, when it is the epoch."""
        self._within.pop()
        self._mark()
        if action_name == "run_training_epoch":
            self._close()

    def steps(self) -> list[dict[str, float]]:
        """Seconds of each part, for each step that was trained; waits for the device."""
        found = []
        for marks in self._steps:
            parts = dict.fromkeys(PARTS, 0.0)
            for (part, begun), (_, ended) in pairwise(marks):
                parts[str(part)] += self._between(begun, ended)
            if any(part == "forward" for part, _ in marks) and marks[-1][0] is None:
                found.append(parts)
        return found

    def _mark(self) -> None:
        part = self._within[-1] if self._within else REST
        if self._open and (not self._steps[-1] or self._steps[-1][-1][0] != part):
            self._steps[-1].append((part, self._clock()))

    def _close(self) -> None:
        if self._open:
            self._steps[-1].append((None, self._clock()))
            self._open = False


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between_events(first: torch.cuda.Event, second: torch.cuda.Event) -> float:
    second.synchronize()
    return float(first.elapsed_time(second)) / 1000


@dataclass(frozen=True)
class Profile:
    """What was found.

    Attributes:
        steps: Seconds of each part of each step, those of the warm-up left out; not empty.
        batch: Images of a step, over all devices.
    """

    steps: Sequence[Mapping[str, float]]
    batch: int

    @classmethod
    def of(cls, steps: Sequence[Mapping[str, float]], batch: int) -> "Profile":
        """Leave out the first quarter of the steps, ten at most: they compile, and fill caches and queues."""
        return cls(steps[min(10, len(steps) // 4) :], batch)

    @property
    def seconds(self) -> float:
        """Mean of a step, which is what a run takes: batches come in bursts, one from each worker."""
        return fmean(sum(step.values()) for step in self.steps)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.batch / self.seconds

    def mean(self, part: str) -> float:
        """Seconds of a part in the mean step; the parts add up to `seconds`."""
        return fmean(step[part] for step in self.steps)

    @property
    def limit(self) -> str:
        """The part to change first: data, where the device waits for it; else the largest."""
        if self.mean("data") > WAITING * self.seconds:
            return "data"
        return max(PARTS, key=self.mean)

    def table(self) -> Table:
        """Milliseconds and share of a step, part by part."""
        table = Table(title=f"A training step, mean and median of {len(self.steps)}", title_justify="left")
        table.add_column("part")
        for column in ("mean ms", "%", "median ms"):
            table.add_column(column, justify="right")
        for part in PARTS:
            own, middle = self.mean(part), median(step[part] for step in self.steps)
            label = f"{part} and the rest" if part == REST else part
            style = "bold" if part == self.limit else None
            cells = (f"{1000 * own:.1f}", f"{100 * own / self.seconds:.1f}", f"{1000 * middle:.1f}")
            table.add_row(label, *cells, style=style)
        table.add_section()
        middle = median(sum(step.values()) for step in self.steps)
        table.add_row("step", f"{1000 * self.seconds:.1f}", "100.0", f"{1000 * middle:.1f}")
        return table

    def sentence(self, config: Mapping[str, Any], *, gpu: bool) -> str:
        """Which part limits, and what to change."""
        share = 100 * self.mean(self.limit) / self.seconds
        return f"{self.rate:.1f} images/s. {self.limit} limits ({share:.0f}% of a step): {self._advice(config, gpu)}."

    def save(self, path: Path, sentence: str) -> None:
        """Write what was found, as JSON."""
        content = {
            "steps": len(self.steps),
            "step_ms": 1000 * self.seconds,
            "parts_ms": {part: 1000 * self.mean(part) for part in PARTS},
            "images_per_second": self.rate,
            "limits": self.limit,
            "sentence": sentence,
        }
        write_json(path, content)

    def _advice(self, config: Mapping[str, Any], gpu: bool) -> str:
        trainer, data = config["trainer"], config["data"]
        if self.limit == "data":
            if data.get("store", "auto") in ("off", False):
                return "set data.store=auto, which decodes each frame once"
            return f"raise data.num_workers (it is {data['num_workers']}), up to the number of cores"
        if self.limit == "loss" and not config["loss"].get("fused", True):
            return "set loss.fused=true"
        if self.limit == "optimizer" and config["optimizer"].get("fused") is False:
            return "set optimizer.fused=auto"
        if self.limit == "logging":
            return f"raise trainer.log_every_n_steps (it is {trainer['log_every_n_steps']})"
        if gpu and trainer["precision"] == "32-true":
            return "set trainer.precision=bf16-mixed"
        if not trainer["compile"]:
            return "the device computes; trainer.compile=true, a smaller data.crop_size or more devices make it faster"
        return "the device computes; a smaller data.crop_size or more devices make it faster"
