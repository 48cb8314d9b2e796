"""Lightning's Trainer for one training run, with the callbacks that every run has."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from fastscnn.data.datamodules.build import TrainingData
from fastscnn.runs.checkpoint_files import CheckpointFiles
from fastscnn.runs.run import Run
from fastscnn.training.accelerator import choose_precision
from fastscnn.training.callbacks.record import FiniteWeights, FramesSeen, KeepRecord, StepSeed, best_checkpoint
from fastscnn.training.checks import OURS
from fastscnn.training.pictures import Pictures
from fastscnn.training.profile import StepProfiler
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.stopping import LastCheckpoint, NoSignals
from fastscnn.training.task import Task

SAVE_EVERY_MINUTES = 15
"""Of runs that were started before this was a setting."""


def build_trainer(
    plain: Mapping[str, Any],
    module: Task,
    data: TrainingData,
    run: Run,
    profiler: StepProfiler | None = None,
    chosen: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Build the Trainer of a run that is open.

    Args:
        plain: The training's settings; `trainer.accelerator` is no longer `auto`.
        module: What is trained.
        data: What it is trained on.
        run: Whose folder, record and loggers are used.
        profiler: Times `trainer.profile_steps` steps; nothing is validated or saved then.
        chosen: Callbacks beside those that every run has.
    """
    settings = {name: value for name, value in plain["trainer"].items() if name not in OURS}
    plugins = settings.pop("plugins", None) or []
    if settings["sync_batchnorm"] == "auto":
        settings["sync_batchnorm"] = settings["devices"] > 1 and settings["accelerator"] in ("gpu", "cuda")
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    settings["check_val_every_n_epoch"] = validation_interval(
        settings["check_val_every_n_epoch"], settings["max_epochs"]
    )
    callbacks: list[pl.Callback] = [
        StepSeed(plain["seed"]),
        FiniteWeights(),
        FramesSeen(data.source_counts("train")),
        *chosen,
    ]
    if run.record:
        callbacks.append(KeepRecord(run.record, validates=data.validates))
        if isinstance(module, Segmentation):
            callbacks.append(Pictures(run.record, plain["pictures"]))
    if profiler:
        settings |= {"max_epochs": -1, "max_steps": plain["trainer"]["profile_steps"]}
        settings |= {"limit_val_batches": 0, "enable_checkpointing": False, "profiler": profiler}
    else:
        minutes = plain["trainer"].get("save_every_minutes", SAVE_EVERY_MINUTES)
        epochs = plain["trainer"].get("save_every_epochs", 1)
        callbacks.append(LastCheckpoint(run.folder, minutes, run.record, epochs, is_best=not data.validates))
        if data.validates:
            callbacks.append(best_checkpoint(run.folder, module.monitor))
        else:
            settings["limit_val_batches"] = 0
    trainer = pl.Trainer(
        **settings,
        default_root_dir=run.folder,
        logger=run.loggers or False,
        callbacks=callbacks,
        plugins=[CheckpointFiles(best_lost=run.best_lost), *plugins],
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if not profiler:
        trainer._signal_connector = NoSignals(trainer)
    return trainer


def validation_interval(setting: int | str, max_epochs: int) -> int:
    """Epochs between validations: the largest divisor of the run that is not above the setting.

    A divisor, so that the last epoch is validated. `auto` gives a hundred validations or more, where there are as
    many epochs.
    """
    most = -(-max_epochs // 100) if setting == "auto" else min(int(setting), max_epochs)
    return next(every for every in range(most, 0, -1) if max_epochs % every == 0)
