"""One training run, from a composed config to a trained and evaluated network on record."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from fastscnn.data.datamodules.build import TrainingData, build_data, build_image_data, title
from fastscnn.data.datamodules.imagenet import NAME as IMAGENET
from fastscnn.data.datamodules.imagenet import ImageNetData
from fastscnn.models.flops import network_cost
from fastscnn.runs.checkpoint import is_checkpoint
from fastscnn.runs.checkpoint_files import CheckpointFiles
from fastscnn.runs.jobs import keep_folder
from fastscnn.runs.record import BEST, LAST
from fastscnn.runs.resume import resumed_run
from fastscnn.runs.session import Session, check_place, open_run
from fastscnn.training.accelerator import choose_accelerator, choose_precision, quiet
from fastscnn.training.callbacks.record import (
    FiniteWeights,
    FramesSeen,
    KeepRecord,
    StepSeed,
    best_checkpoint,
    best_checkpoints,
)
from fastscnn.training.checks import OURS, check_settings, check_smallest_batch
from fastscnn.training.pictures import Pictures
from fastscnn.training.profile import Profile, StepProfiler
from fastscnn.training.progress import ProgressLine
from fastscnn.training.recompute import choose_keep_memory
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.stopping import LastCheckpoint, NoSignals, ended_together
from fastscnn.training.task import Task
from fastscnn.training.transfer import find_weights, load_pretrained
from fastscnn.utils.errors import RequestError
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.signals import waiting

PAPER_SIZE = (1024, 2048)
PROFILE = "profile.json"
SAVE_EVERY_MINUTES = 15
"""Of runs that were started before this was a setting."""


def fit(config: DictConfig) -> None:
    """Train the network of a composed `train` config, and evaluate its best checkpoint where the test has labels.

    With `resume` it is the run of that folder which goes on. Everything that can be wrong with the request is found
    before the run's folder is made, or touched.

    Raises:
        RequestError: A setting or the data is wrong.
        NonFiniteLoss: The loss became NaN or infinite.
    """
    quiet()
    first_process = getattr(rank_zero_only, "rank", 0) == 0
    resumed = resumed_run(config, first_process=first_process)
    if resumed:
        config = resumed.config
        if resumed.finished:
            print(*resumed.told(), sep="\n")
            keep_folder(resumed.folder)
            return
        if config.trainer.get("profile_steps"):
            raise RequestError(
                f"trainer.profile_steps={config.trainer.profile_steps} is for a run of its own: leave resume out."
            )
    if first_process:
        check_place(config, resumed)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain["trainer"]["accelerator"] = choose_accelerator(plain["trainer"]["accelerator"], plain["trainer"]["devices"])
    check_settings(plain)
    weights = None if resumed else find_weights(plain["pretrain"], plain["paths"]["output_dir"])
    data = _data(plain)
    data.prepare_data()  # as Lightning calls them, and once more when it does; what is wrong is found without a folder
    data.setup("fit")
    check_smallest_batch(plain, frames=len(data.frames("train")))
    if choose_keep_memory(plain["trainer"].get("keep_memory", "auto"), _pixels(plain, data)):
        keep_freed_memory()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    module = _task(plain, data)
    transfer = load_pretrained(module.network, weights) if weights else None
    console = Console()
    with open_run(config, resumed) as session:
        if session.record:
            session.record.update(dataset=data.described("train", "val"))
            _summary(module, data, session, console)
            if transfer:
                session.record.update(pretrain=transfer.record())
                console.print(str(transfer), highlight=False, soft_wrap=True)
        profiler = _profiler(plain["trainer"])
        best_lost = bool(resumed and resumed.point and resumed.point.best_lost)
        trainer = _trainer(plain, module, data, session, profiler, CheckpointFiles(best_lost=best_lost))
        if session.record:
            session.record.update(device=_device(trainer))
        if plain["trainer"]["compile"]:
            module.compile_network()
        with ended_together(trainer), nullcontext() if profiler else waiting():
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=resumed.point.checkpoint if resumed and resumed.point else None,
                weights_only=True,
            )
            if profiler:
                _tell_profile(trainer, profiler, plain, session.folder, console)
            else:
                _finish(trainer, module, data, console, test=plain["data"]["evaluate_test"])


def _data(plain: Mapping[str, Any]) -> TrainingData:
    build = build_image_data if plain["data"]["dataset"] == IMAGENET else build_data
    data: TrainingData = build(
        plain["data"],
        plain["augment"],
        seed=plain["seed"],
        devices=plain["trainer"]["devices"],
        accumulate=plain["trainer"]["accumulate_grad_batches"],
    )
    return data


def _task(plain: Mapping[str, Any], data: TrainingData) -> Task:
    if isinstance(data, ImageNetData):
        from fastscnn.training.classification import Classification  # timm is slow to import

        return Classification(plain, data.classes)
    return Segmentation(plain, data.classes)


def validation_interval(setting: int | str, max_epochs: int) -> int:
    """Epochs between validations: the largest divisor of the run that is not above the setting.

    A divisor, so that the last epoch is validated. `auto` gives a hundred validations or more, where there are as
    many epochs.
    """
    most = -(-max_epochs // 100) if setting == "auto" else min(int(setting), max_epochs)
    return next(every for every in range(most, 0, -1) if max_epochs % every == 0)


def _pixels(plain: Mapping[str, Any], data: TrainingData) -> int:
    """Pixels of one device's batch in one forward pass."""
    parts = plain["trainer"]["devices"] * plain["trainer"]["accumulate_grad_batches"]
    return int(data.batch_size // parts * data.crop_size[0] * data.crop_size[1])


def _profiler(settings: Mapping[str, Any]) -> StepProfiler | None:
    """With the clock of what computes, where the steps are to be timed."""
    if not settings.get("profile_steps"):
        return None
    return StepProfiler.of("cuda" if settings["accelerator"] in ("gpu", "cuda") else "cpu")


def _trainer(
    plain: Mapping[str, Any],
    module: Task,
    data: TrainingData,
    session: Session,
    profiler: StepProfiler | None,
    files: CheckpointFiles,
) -> pl.Trainer:
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
        ProgressLine(),
    ]
    if session.record:
        callbacks.append(KeepRecord(session.record))
        if isinstance(module, Segmentation):
            callbacks.append(Pictures(session.record, plain["pictures"]))
    if profiler:
        settings |= {"max_epochs": -1, "max_steps": plain["trainer"]["profile_steps"]}
        settings |= {"limit_val_batches": 0, "enable_checkpointing": False, "profiler": profiler}
    else:
        minutes = plain["trainer"].get("save_every_minutes", SAVE_EVERY_MINUTES)
        callbacks.append(LastCheckpoint(session.folder, minutes, session.record))
        callbacks.append(best_checkpoint(session.folder, module.monitor))
    trainer = pl.Trainer(
        **settings,
        default_root_dir=session.folder,
        logger=session.loggers or False,
        callbacks=callbacks,
        plugins=[files, *plugins],
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if not profiler:
        trainer._signal_connector = NoSignals(trainer)
    return trainer


def _tell_profile(
    trainer: pl.Trainer, profiler: StepProfiler, plain: Mapping[str, Any], folder: Path, console: Console
) -> None:
    """Show where the time of a step went, and keep it in `profile.json`."""
    if not trainer.is_global_zero:
        return
    profile = Profile.of(profiler.steps(), plain["data"]["batch_size"] // trainer.accumulate_grad_batches)
    sentence = profile.sentence(plain, gpu=trainer.strategy.root_device.type == "cuda")
    profile.save(folder / PROFILE, sentence)
    console.print(profile.table())
    console.print(sentence, highlight=False, soft_wrap=True)


def _finish(trainer: pl.Trainer, module: Task, data: TrainingData, console: Console, *, test: bool) -> None:
    """Show every class: of the best checkpoint on the test split where it has labels, else of the best validation."""
    shown = BEST
    if test:
        best = next(callback.best_model_path for callback in best_checkpoints(trainer))
        if not is_checkpoint(best):
            shown = LAST
            if trainer.is_global_zero:
                print(f"{BEST} is gone or broken, so the test is of {LAST}")
        tested = Path(trainer.default_root_dir) / LAST if shown == LAST else best
        trainer.test(module, datamodule=data, ckpt_path=tested, verbose=False, weights_only=True)
    scores = module.scores["test"] if test else module.best_scores
    if trainer.is_global_zero and scores is not None:  # no best: its file was lost, and no validation came after
        stage = "test" if test else "val"
        judged = "training images" if isinstance(data, ImageNetData) and data.judged_on_train else stage
        console.print(f"{title(data)} {judged}, {shown.name}", highlight=False)
        console.print(scores.table())


def _summary(module: Task, data: TrainingData, session: Session, console: Console) -> None:
    size = data.crop_size if isinstance(data, ImageNetData) else PAPER_SIZE
    costs = network_cost(module.network, size, in_channels=module.config["model"]["in_channels"])
    parameters = sum(cost.parameters for cost in costs)
    norms = sum(cost.norm_parameters for cost in costs)
    macs = sum(cost.macs for cost in costs)
    counts = {split: data.source_counts(split) for split in ("train", "val")}
    frames = "; ".join(
        f"{split} " + " + ".join(f"{count:,} {source}" for source, count in by_source.items())
        for split, by_source in counts.items()
    )
    console.print(
        f"[bold]{session.folder}[/]\n"
        f"{module.config['model']['name']}: {parameters:,} parameters ({parameters - norms:,} without BatchNorm), "
        f"{macs / 1e9:.2f} G multiply-adds at {size[0]}x{size[1]}\n"
        f"{title(data)}, {data.classes.num_classes} classes: {frames}; crop "
        f"{data.crop_size[0]}x{data.crop_size[1]}, batch {data.batch_size}",
        highlight=False,
        soft_wrap=True,
    )
    if isinstance(data, ImageNetData) and data.judged_on_train:
        console.print(f"no val/ in {data.root}: judged on the training images", highlight=False, soft_wrap=True)


def _device(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{trainer.world_size} x {name}, {torch.get_num_threads()} threads, {trainer.precision}"
