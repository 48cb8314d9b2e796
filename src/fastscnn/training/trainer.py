"""Lightning's Trainer for one training run, with the callbacks that every run has."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl

from fastscnn.data.datamodules.build import TrainingData
from fastscnn.data.datamodules.external import ExternalData
from fastscnn.runs.checkpoint_files import CheckpointFiles
from fastscnn.runs.counted import Counted, steps_and_epoch
from fastscnn.runs.run import Run
from fastscnn.training.accelerator import choose_precision
from fastscnn.training.callbacks.rates import BestInLoggers, Rates
from fastscnn.training.callbacks.record import (
    EpochLoss,
    FiniteWeights,
    FramesSeen,
    KeepRecord,
    StepSeed,
    best_checkpoint,
)
from fastscnn.training.callbacks.starting_score import StartingScore
from fastscnn.training.pictures import Pictures
from fastscnn.training.profile import StepProfiler
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.stopping import KeepSignalHandlers, LastCheckpoint
from fastscnn.training.task import Task
from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object
from fastscnn.utils.values import check_choice, check_number, check_switch, check_whole

GPUS = "gpus"
"""Of the `trainer` settings: the GPUs that `devices` lists, once these have become a number."""
OWN_SETTINGS = {
    GPUS,
    "compile",
    "channels_last",
    "cuda_graph",
    "fused_norm",
    "keep_memory",
    "profile_steps",
    "recompute",
    "save_every_epochs",
    "save_every_minutes",
    "triton_depthwise",
}
"""Settings of the `trainer` group that are not Lightning's."""
TRAINER = "pytorch_lightning.Trainer"
OF_THE_RUN = (
    "callbacks",
    "default_root_dir",
    "enable_model_summary",
    "enable_progress_bar",
    "logger",
    "use_distributed_sampler",
)
"""Arguments that the run gives to its trainer."""
CHECKED = "num_sanity_val_steps"
"""Lightning's number of batches that are validated before the training: -1 for all."""
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
"""Arguments without which Lightning prints what the run prints itself."""
AUTO = ("auto", True, False)
CHECKS: dict[str, Callable[[str, Any], None]] = {
    "max_epochs": partial(check_whole, minimum=1, words=("auto",)),
    "limit_train_batches": partial(check_number, above=0),
    "limit_val_batches": partial(check_number, above=0),
    "accumulate_grad_batches": partial(check_whole, minimum=1),
    "check_val_every_n_epoch": partial(check_whole, minimum=1, words=("auto",)),
    "gradient_clip_val": partial(check_number, above=0, words=(None,)),
    "sync_batchnorm": partial(check_choice, options=AUTO),
    "deterministic": partial(check_choice, options=(True, False, "warn")),
    "compile": check_switch,
    "channels_last": check_switch,
    "fused_norm": partial(check_choice, options=AUTO),
    "triton_depthwise": partial(check_choice, options=AUTO),
    "keep_memory": partial(check_choice, options=AUTO),
    "recompute": partial(check_choice, options=AUTO),
    "profile_steps": check_whole,
    "save_every_minutes": partial(check_number, above=0),
    "save_every_epochs": partial(check_whole, minimum=1),
    "cuda_graph": partial(check_choice, options=AUTO),
}
"""What settings of the `trainer` group must be; `accelerator` checks accelerator, devices and precision."""
SAVE_EVERY_MINUTES = 15
"""Of runs that were started before this was a setting."""


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Check the `trainer` config of a training before anything starts: the Trainer itself is built within the run.

    Raises:
        RequestError: The class is no Trainer or does not take a setting, or its value is not what it must be.
    """
    node = lightning_node(settings)
    kind = named_object(node, "trainer")
    if not (isinstance(kind, type) and issubclass(kind, pl.Trainer)):
        raise RequestError(
            f"trainer.{TARGET}={node[TARGET]} is no trainer of Lightning's.",
            key=f"trainer.{TARGET}",
            fix=f"Name a class that is one, such as {TRAINER}.",
        )
    check_arguments(node, "trainer", kind)
    for name in OF_THE_RUN:
        if node.get(name) is not None:
            raise RequestError(
                f"trainer.{name} is given by the run itself.", key=f"trainer.{name}", fix=f"Drop: '~trainer.{name}'."
            )
    for name, value in settings.items():
        if name in CHECKS:
            CHECKS[name](f"trainer.{name}", value)


def lightning_node(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `trainer` settings that its class takes, with the class, which earlier runs did not name."""
    return {TARGET: TRAINER} | {name: value for name, value in settings.items() if name not in OWN_SETTINGS}


def try_trainer(trainer: Mapping[str, Any]) -> None:
    """Build Lightning's Trainer without a run, to find what it does not take before there is a folder.

    A class of a user's own is left alone: nobody knows what it does when it is built.

    Args:
        trainer: As `build_trainer` takes it.

    Raises:
        RequestError: It cannot be built.
    """
    settings = _settings(trainer)
    if named_object(settings, "trainer") is pl.Trainer:
        build(settings, "trainer", logger=False, enable_checkpointing=False, **QUIET)


def _settings(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the class, with values in the place of what is automatic."""
    settings = lightning_node(trainer)
    if settings["sync_batchnorm"] == "auto":
        settings["sync_batchnorm"] = settings["devices"] > 1 and settings["accelerator"] in ("gpu", "cuda")
    settings["devices"] = trainer.get(GPUS) or settings["devices"]
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    settings["check_val_every_n_epoch"] = validation_interval(
        settings["check_val_every_n_epoch"], settings["max_epochs"]
    )
    return settings


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
    settings = _settings(plain["trainer"])
    plugins = settings.pop("plugins", None) or []
    callbacks: list[pl.Callback] = [
        KeepSignalHandlers(),
        StepSeed(plain["seed"]),
        FiniteWeights(),
        FramesSeen(data.source_counts("train")),
        EpochLoss(),
        Rates(),
        *chosen,
    ]
    if run.record:
        callbacks += [KeepRecord(run.record, validates=data.validates), BestInLoggers(run.record)]
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
            if (plain.get("init") or {}).get("checkpoint") and settings.setdefault(CHECKED, -1) == -1 and run.record:
                callbacks.append(StartingScore(run.record))
        else:
            settings["limit_val_batches"] = 0
            if not any(isinstance(callback, pl.callbacks.Checkpoint) for callback in chosen):
                settings["enable_checkpointing"] = False  # else Lightning adds one of its own
    trainer: pl.Trainer = build(
        settings,
        "trainer",
        default_root_dir=run.folder,
        logger=run.loggers or False,
        callbacks=callbacks,
        plugins=[CheckpointFiles(best_lost=run.best_lost), *plugins],
        use_distributed_sampler=isinstance(data, ExternalData),  # ours have their own
        **QUIET,
    )
    for logger in run.loggers:
        if isinstance(logger, Counted):
            logger.position = partial(steps_and_epoch, trainer)
    return trainer


def validation_interval(setting: int | str, max_epochs: int) -> int:
    """Epochs between validations: the largest divisor of the run that is not above the setting.

    A divisor, so that the last epoch is validated. `auto` gives a hundred validations or more, where there are as
    many epochs.
    """
    most = -(-max_epochs // 100) if setting == "auto" else min(int(setting), max_epochs)
    return next(every for every in range(most, 0, -1) if max_epochs % every == 0)
