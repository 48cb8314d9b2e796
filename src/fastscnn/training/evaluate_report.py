"""An evaluation in the loggers: in W&B a run of `job_type=eval`, in the group of the training that it belongs to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fastscnn.inference.hub import on_disk
from fastscnn.runs.identity import Identity
from fastscnn.runs.loggers import opened_loggers
from fastscnn.runs.media import show_confusion
from fastscnn.runs.record import read_record
from fastscnn.runs.reporting import summarize
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.task import Result, Task


class _Evaluated:
    """The folder of an evaluation, as loggers take the record of a run; its settings are those of the training."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder
        name = folder.name.rpartition("-")[2][:32]
        self.data: dict[str, Any] = {"id": name, "wandb_id": None, "settings": settings}

    def update(self, **changes: Any) -> None:
        """Only this process knows it."""
        self.data |= changes


def report_evaluation(plain: Mapping[str, Any], folder: Path, module: Task, scores: Result, data: str) -> None:
    """Send an evaluation's scores to the loggers that `logger` of `eval.py` chooses, if any.

    Args:
        plain: The settings of `eval.py`.
        folder: Where `eval.json` lies.
        module: What was evaluated.
        scores: Its scores.
        data: The name of the data set.
    """
    if not plain.get("logger"):
        return
    split, trained = plain["split"], record_of(on_disk(plain["checkpoint"]).resolve())
    model, resolution = module.config["model"], module.config.get("resolution", {})
    choices = {**trained.get("choices", {}), "data": data}
    choices |= {name: str(model[name]) for name in ("skip", "activation") if name in model}
    choices |= {"resolution": str(resolution["name"])} if "name" in resolution else {}
    identity = Identity(choices, group=trained.get("group"), studies=_studies(trained), job_type="eval")
    evaluated = {
        "split": split,
        "checkpoint": plain["checkpoint"],
        "of_run": trained.get("wandb_id") or trained.get("id"),
    }
    seed = trained.get("seed")
    config = OmegaConf.create({**plain, "seed": seed, "evaluated": evaluated})
    record: Any = _Evaluated(folder, trained.get("settings"))
    step = int(trained.get("metrics", {}).get("best", {}).get("step") or 0)
    with opened_loggers(config, record, identity) as loggers:
        values = {name: value for name, value in scores.named(split).items() if value == value}
        for logger in loggers:
            logger.log_metrics(values, step)
        summarize(loggers, values)
        if isinstance(module, Segmentation) and module.matrix is not None:
            show_confusion(loggers, module.matrix, module.classes.names, module.scores["test"].iou, step)


def record_of(checkpoint: Path) -> Mapping[str, Any]:
    """The record of the run that a checkpoint belongs to; empty if it is not in a run's folder."""
    try:
        return read_record(checkpoint.parent.parent)
    except (OSError, ValueError, KeyError):
        return {}


def _studies(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(record.get("studies") or ())
