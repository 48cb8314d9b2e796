"""What a run reports beside scalars, to whichever loggers it has: each has a way of its own for it, or none."""

from collections.abc import Iterable, Mapping

from pytorch_lightning.loggers import MLFlowLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from fastscnn.runs.tracker import Tracker


def summarize(loggers: Iterable[Logger], values: Mapping[str, float]) -> None:
    """Set the values by which runs are told apart, such as `best/miou`: each replaces the one before."""
    found = dict(values)
    for logger in trackers(loggers):
        if issubclass(logger.kind, WandbLogger):
            logger.report(lambda inner: inner.experiment.summary.update(found))  # type: ignore[attr-defined]
        elif issubclass(logger.kind, MLFlowLogger):
            logger.report(lambda inner: inner.log_metrics(found))


def trackers(loggers: Iterable[Logger]) -> list[Tracker]:
    """The loggers beside `metrics.csv`."""
    return [logger for logger in loggers if isinstance(logger, Tracker)]
