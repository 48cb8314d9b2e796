"""What a run reports beside scalars, to whichever loggers it has: each has a way of its own for it, or none."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from fastscnn.runs.tracker import Tracker


def summarize(loggers: Iterable[Logger], values: Mapping[str, float]) -> None:
    """Set the values that summarise a run, such as `best/miou`: each replaces the one before."""
    found = dict(values)
    for logger in trackers(loggers):
        if issubclass(logger.kind, WandbLogger):
            logger.report(lambda inner: inner.experiment.summary.update(found))  # type: ignore[attr-defined]
        elif issubclass(logger.kind, MLFlowLogger):
            logger.report(lambda inner: inner.log_metrics(found))


def describe(loggers: Iterable[Logger], values: Mapping[str, Any], *, resumed: bool = False) -> None:
    """Add facts of a run, such as its device and its number of parameters, to the settings that a logger shows.

    Only W&B takes them for a resumed run: MLflow refuses another value for what it has.
    """
    found = dict(values)
    for logger in trackers(loggers):
        if issubclass(logger.kind, WandbLogger):
            logger.report(lambda inner: _update_config(inner, found))
        elif issubclass(logger.kind, MLFlowLogger | TensorBoardLogger) and not resumed:
            logger.report(lambda inner: inner.log_hyperparams(found))


def trackers(loggers: Iterable[Logger]) -> list[Tracker]:
    """The loggers beside `metrics.csv`."""
    return [logger for logger in loggers if isinstance(logger, Tracker)]


def _update_config(inner: Any, values: Mapping[str, Any]) -> None:
    inner.experiment.config.update(values, allow_val_change=True)
