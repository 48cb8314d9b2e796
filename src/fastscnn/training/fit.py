"""One training run, from a composed config to a trained and evaluated network on record."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fastscnn.data.datamodules.build import TrainingData, build_training_data
from fastscnn.data.datamodules.imagenet import ImageNetData
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder_splits import LISTS, with_recorded_lists, write_lists
from fastscnn.data.fingerprint import fingerprint
from fastscnn.runs.checkpoint import is_checkpoint
from fastscnn.runs.objective import optimized_value
from fastscnn.runs.record import BEST, LAST
from fastscnn.runs.reporting import describe
from fastscnn.runs.resume import Resumption
from fastscnn.runs.run import Run
from fastscnn.training.accelerator import choose_accelerator, choose_devices, quiet
from fastscnn.training.callbacks.build import build_callbacks, check_monitors
from fastscnn.training.callbacks.record import best_checkpoints
from fastscnn.training.checks import check_batches, check_classes, check_heads, check_metric, check_settings
from fastscnn.training.class_weights import weigh_classes
from fastscnn.training.data_errors import naming_check
from fastscnn.training.distillation import CHECKPOINT, Teacher, find_source
from fastscnn.training.fine_tuning import find_start, take
from fastscnn.training.freezing import freeze_parts
from fastscnn.training.profile import StepProfiler
from fastscnn.training.recompute import choose_keep_memory
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.settle import median_size, settle, settle_rate, settled
from fastscnn.training.starts import resolve_starts
from fastscnn.training.stopping import ended_together
from fastscnn.training.summary import describe_device, print_profile, print_scores, print_start
from fastscnn.training.task import Task
from fastscnn.training.trainer import GPUS, build_trainer, check_trainer, try_trainer
from fastscnn.training.transfer import find_weights, load_pretrained
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.signals import waiting


def fit(config: DictConfig) -> float | None:
    """Train the network of a composed `train` config, and evaluate its best checkpoint where the test has labels.

    With `resume` it is the run of that folder which goes on. Everything that can be wrong with the request is found
    before the run's folder is made, or touched.

    Raises:
        RequestError: A setting or the data is wrong.
        NonFiniteLoss: The loss became NaN or infinite.
    """
    quiet()
    if OmegaConf.select(config, "resume") is None and OmegaConf.select(config, "replay") is None:
        resolve_starts(config)
    run = Run.of(config)
    if run.replays:
        resolve_starts(run.config)
    metric = OmegaConf.select(config, "optimized_metric")
    if run.finished:
        run.print_finished()
        return optimized_value(run.resumption.record, metric) if run.resumption else None
    plain: Any = OmegaConf.to_container(run.config, resolve=True)
    with naming_check(plain["data"]):
        return _fit(run, plain, metric)


def _fit(run: Run, plain: dict[str, Any], metric: str | None) -> float | None:
    data = checked_data(plain, run.resumption)
    try_trainer(plain["trainer"])
    if run.resumption and run.resumption.point and (trained := run.resumption.point.classes):
        fix = "Give classes.yaml the names and the order that the run began with, or start a new run."
        check_classes(trained, data, str(run.folder), "resume", fix)
    weights = None if run.checkpoint else find_weights(plain["pretrain"], plain["paths"]["output_dir"])
    init = plain.get("init") or {}
    start = None if run.checkpoint else find_start(init, plain.get("trust"))
    teacher = find_teacher(plain, data)
    data.prepare_data()  # as Lightning calls them, which does so once more: what is wrong is found without a folder
    data.setup("fit")
    plain["data"].setdefault("batch_size", data.batch_size)  # an external module's own
    check_batches(plain, frames=len(data.frames("train")))
    callbacks = build_callbacks(plain.get("callbacks"), validates=data.validates)
    weighed = weigh_classes(plain["loss"], data)
    if choose_keep_memory(plain["trainer"].get("keep_memory", "auto"), _pixels(plain, data)):
        keep_freed_memory()
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    module = build_task(_with_frame_size(plain, data), data, teacher)
    check_monitors(plain.get("callbacks"), callbacks, module.metric_names("val"))
    check_heads(module, HydraConfig.get().overrides.task if HydraConfig.initialized() else ())
    check_metric(metric, module, validates=data.validates, tests=plain["data"]["evaluate_test"])
    transfer = load_pretrained(module.network, weights) if weights else None
    taken = take(module, start, init["freeze"]) if start and isinstance(module, Segmentation) else None
    if init.get("freeze") and isinstance(module, Segmentation):
        freeze_parts(module, init["freeze"])
    run.when_closed += [call for callback in callbacks if (call := getattr(callback, "run_closed", None))]
    with run:
        splits = ("train", "val") if data.validates else ("train",)
        about = {"fingerprint": fingerprint(data, *splits)} if run.record else {}
        run.update(dataset=data.described("train", "val") | about | drawn_lists(run, data))
        if chosen := settled(run.config, plain):
            run.update(settled=chosen)
        if run.record:
            describe(run.loggers, print_start(run.folder, module, data), resumed=run.resumption is not None)
        if run.record and weighed:
            run.update(class_weights=weighed.record())
            Console().print(str(weighed), highlight=False, soft_wrap=True)
        if run.record and transfer:
            run.update(pretrain=transfer.record())
            Console().print(str(transfer), highlight=False, soft_wrap=True)
        if run.record and taken:
            run.update(init=taken.record())
            Console().print(taken.table())
            Console().print(str(taken), highlight=False, soft_wrap=True)
        if run.record and teacher:
            run.update(distill=teacher.record())
            Console().print(str(teacher), highlight=False, soft_wrap=True)
        train(plain, module, data, run, callbacks)
    return optimized_value(run.record.data, metric) if run.record else None


def checked_data(plain: dict[str, Any], resumed: Resumption | None = None) -> TrainingData:
    """Check a training's settings and build its data module, which checks its own; nothing is written.

    Args:
        plain: The settings; `trainer.accelerator` becomes the one that is taken, where it is `auto`, and
            `trainer.devices` their number, with `trainer.gpus` beside it where it is a list. What `settle` settles
            becomes its value.
        resumed: A resumed run, which keeps its frames where they were drawn, and its settled values.

    Raises:
        RequestError: A setting is wrong.
    """
    trainer = plain["trainer"]
    check_trainer(trainer)
    trainer["accelerator"] = choose_accelerator(trainer["accelerator"])
    devices = choose_devices(trainer["devices"], trainer["accelerator"])
    trainer["devices"] = devices if isinstance(devices, int) else len(devices)
    trainer[GPUS] = None if isinstance(devices, int) else devices
    recorded = resumed.record.get("settled", {}) if resumed else {}
    settle_rate(plain, recorded)
    check_settings(plain)
    settings = with_recorded_lists(plain["data"], resumed.folder) if resumed else plain["data"]
    settle(plain, settings, recorded)
    lists = {"lists": settings["lists"]} if "lists" in settings else {}
    data = build_training_data({**plain, "data": plain["data"] | lists})
    check_batches(plain)
    return data


def drawn_lists(run: Run, data: TrainingData) -> dict[str, Any]:
    """Write the names of the frames to the run's folder where their splits were drawn; what the record says of it."""
    drawn = data.source.drawn(data.root) if isinstance(data, SegmentationData) and data.source.drawn else {}
    if not drawn or not run.record:
        return {}
    write_lists(run.folder, drawn)
    counts = ", ".join(f"{len(names):,} {split}" for split, names in drawn.items() if names)
    print(f"no folders or lists of splits: frames were drawn (data.random_split), {counts}; {run.folder / LISTS}")
    return {"lists": LISTS}


def train(
    plain: Mapping[str, Any], module: Task, data: TrainingData, run: Run, callbacks: Sequence[pl.Callback] = ()
) -> None:
    """Train, or profile, a module in an open run, and show the scores."""
    profiler = _profiler(plain["trainer"])
    trainer = build_trainer(plain, module, data, run, profiler, callbacks)
    run.update(device=describe_device(trainer))
    describe(run.loggers, {"device": describe_device(trainer)}, resumed=run.resumption is not None)
    run.print_replayed()
    if plain["trainer"]["compile"]:
        module.compile_network()
    with ended_together(trainer), nullcontext() if profiler else waiting():
        trainer.fit(module, datamodule=data, ckpt_path=run.checkpoint, weights_only=True)
        if profiler:
            print_profile(trainer, profiler, plain, run.folder)
            return
        test = plain["data"]["evaluate_test"]
        checkpoint = _test(trainer, module, data) if test else BEST
        print_scores(trainer, module, data, checkpoint, test=test)


def find_teacher(plain: Mapping[str, Any], data: TrainingData) -> Teacher | None:
    """The trained network that `distill` names; None where it names none.

    Raises:
        RequestError: It cannot be read, or predicts other classes than the data has.
    """
    distill = plain.get("distill") or {}
    source = find_source(distill, plain.get("trust"))
    if source is None:
        return None
    fix = "Name a network that was trained on the same classes, in the same order."
    check_classes(source.trained.classes.names, data, distill["checkpoint"], CHECKPOINT, fix, key=CHECKPOINT)
    channels_last = bool(plain["trainer"].get("channels_last", True))
    return Teacher(source, distill["weight"], distill["temperature"], channels_last=channels_last)


def build_task(plain: Mapping[str, Any], data: TrainingData, teacher: Teacher | None = None) -> Task:
    """Build the module that trains on the data, where segmentation may have a teacher."""
    if isinstance(data, ImageNetData):
        from fastscnn.training.classification import Classification  # timm is slow to import

        return Classification(plain, data.classes)
    return Segmentation(plain, data.classes, teacher=teacher)


def _with_frame_size(plain: dict[str, Any], data: TrainingData) -> dict[str, Any]:
    """The config, with the size of the frames that are trained on: a checkpoint says what its network knows."""
    if not isinstance(data, SegmentationData):
        return plain
    return plain | {"data": plain["data"] | {"frame_size": list(median_size(data))}}


def _test(trainer: pl.Trainer, module: Task, data: TrainingData) -> Path:
    """Evaluate the best checkpoint on the test split; returns the one that was taken."""
    taken = BEST
    best = (callback.best_model_path for callback in best_checkpoints(trainer))
    path = Path(next(best, Path(trainer.default_root_dir) / BEST))  # without a validation it is the last one
    if not is_checkpoint(path):
        taken, path = LAST, Path(trainer.default_root_dir) / LAST
        if trainer.is_global_zero:
            print(f"{BEST} is gone or broken, so the test is of {LAST}")
    trainer.test(module, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    return taken


def _pixels(plain: Mapping[str, Any], data: TrainingData) -> int:
    """Pixels of one device's batch in one forward pass, as the network sees it."""
    parts = plain["trainer"]["devices"] * plain["trainer"]["accumulate_grad_batches"]
    scale = plain.get("resolution", {}).get("scale", 1.0)
    return int(data.batch_size // parts * data.crop_size[0] * data.crop_size[1] * scale**2)


def _profiler(settings: Mapping[str, Any]) -> StepProfiler | None:
    """With the clock of what computes, where the steps are to be timed."""
    if not settings.get("profile_steps"):
        return None
    return StepProfiler.of("cuda" if settings["accelerator"] in ("gpu", "cuda") else "cpu")
