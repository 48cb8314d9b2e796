"""How the learning rate rises and falls: a factor of `optimizer.lr` for each optimizer step of the whole run.

Each schedule first rises linearly over `warmup_steps`: the curve is multiplied by `(step + 1) / warmup_steps` until
that is 1. The curve itself counts from the first step of the run, warm-up included.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object, parameters
from fastscnn.utils.values import check_number, check_whole


def build_schedule(settings: Mapping[str, Any], optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Build the schedule of a `scheduler` config: one of this module, or any of torch's or of another package.

    Args:
        settings: `_target_` and its arguments; the optimizer comes before them, and `total_steps` where it is taken.
        optimizer: Whose learning rate.
        total_steps: Of the whole run.

    Raises:
        RequestError: The class cannot be imported, is no schedule, or does not take an argument.
    """
    check_schedule(settings)
    names, _ = parameters(named_object(settings, "scheduler"))
    steps = {"total_steps": total_steps} if "total_steps" in names and "total_steps" not in settings else {}
    schedule = build(settings, "scheduler", optimizer, **steps)
    if not isinstance(schedule, LRScheduler):
        raise RequestError(
            f"scheduler._target_={settings[TARGET]} gives no torch.optim.lr_scheduler.LRScheduler.",
            key="scheduler._target_",
            fix="Name one that does, such as fastscnn.training.schedules.poly.",
        )
    return schedule


def check_schedule(settings: Mapping[str, Any]) -> None:
    """Check the `scheduler` config: what it names, that this takes each argument, and the values of ours.

    Raises:
        RequestError: Names the setting and the fix.
    """
    target = named_object(settings, "scheduler")
    if target is ReduceLROnPlateau:
        raise RequestError(
            f"scheduler._target_={settings[TARGET]} waits for a metric, and a schedule here goes by optimizer steps.",
            key="scheduler._target_",
            fix="Use scheduler=cosine, or another that goes by steps.",
        )
    check_arguments(settings, "scheduler", target)
    if "power" in settings:
        check_number("scheduler.power", settings["power"], minimum=0)
    if "warmup_steps" in settings:
        check_whole("scheduler.warmup_steps", settings["warmup_steps"], words=(None,))


def restore_settings(schedule: Any, groups: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer the settings of its run, in the place of those that a checkpoint brought.

    The learning rate is that of the schedule over the whole run, with its current length, at the current step. If a
    schedule has no such curve, the current learning rate is scaled as `optimizer.lr` was changed.

    Args:
        schedule: Of the optimizer, at its current step.
        groups: Settings of each group of weights, as the run's config has them, with the schedule's `initial_lr`.
    """
    for place, (group, own) in enumerate(zip(schedule.optimizer.param_groups, groups, strict=True)):
        if isinstance(schedule, LambdaLR):
            rate = own["initial_lr"] * schedule.lr_lambdas[place](schedule.last_epoch)
        else:
            rate = group["lr"] * own["initial_lr"] / group["initial_lr"]
        group |= {**own, "lr": rate}
    schedule.base_lrs = [own["initial_lr"] for own in groups]


def endless_warm_up(settings: Mapping[str, Any], total_steps: int) -> str | None:
    """A sentence where the warm-up does not end before the run does, so that `optimizer.lr` is never reached."""
    steps = settings.get("warmup_steps") or 0
    if steps < total_steps:
        return None
    return (
        f"scheduler.warmup_steps={steps} does not end within the run's {total_steps} steps: the learning rate never "
        "reaches optimizer.lr. Set fewer, or train longer"
    )


def poly(optimizer: Optimizer, total_steps: int, power: float = 0.9, warmup_steps: int = 0) -> LambdaLR:
    """The 'poly' schedule (section 3.1): `lr * (1 - step / total_steps) ** power`, 0 at the end."""
    return _schedule(optimizer, warmup_steps, lambda step: max(0.0, 1 - step / max(1, total_steps)) ** power)


def cosine(optimizer: Optimizer, total_steps: int, final: float = 0.0, warmup_steps: int = 0) -> LambdaLR:
    """Half a cosine from `lr` down to the share `final` of it at the end (Loshchilov and Hutter 2017)."""

    def curve(step: int) -> float:
        return _between(1.0, final, min(1.0, step / max(1, total_steps)))

    return _schedule(optimizer, warmup_steps, curve)


def onecycle(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int | None = None,
    start: float = 1 / 25,
    final: float = 4e-6,
) -> LambdaLR:
    """Up from the share `start` to `lr` and down to the share `final`, both by half a cosine (Smith 2018).

    As torch's `OneCycleLR` without its cycle of the momentum.

    Args:
        optimizer: Whose learning rate.
        total_steps: Of the whole run.
        warmup_steps: Steps of the way up; None is 30% of the run.
        start: Share of the learning rate at the first step.
        final: Share of it at the last step.
    """
    top = (0.3 * total_steps if warmup_steps is None else float(warmup_steps + 1)) - 1
    last = max(1, total_steps - 1)

    def curve(step: int) -> float:
        if step <= top:
            return _between(start, 1.0, step / top if top > 0 else 1.0)
        return _between(1.0, final, min(1.0, (step - top) / max(1.0, last - top)))

    return _schedule(optimizer, 0, curve)


def constant(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """The same learning rate in every step of the run."""
    return _schedule(optimizer, warmup_steps, lambda step: 1.0)


def _between(first: float, last: float, share: float) -> float:
    """From `first` at share 0 to `last` at share 1, along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _schedule(optimizer: Optimizer, warmup_steps: int, curve: Callable[[int], float]) -> LambdaLR:
    def factor(step: int) -> float:
        value = float(curve(step))
        return value * min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else value

    return LambdaLR(optimizer, factor)
