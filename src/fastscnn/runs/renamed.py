"""Settings that have moved: what an earlier command line or an earlier run's config calls them, as it is called now."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, open_dict

MOVED = {
    "optimizer.power": "scheduler.power",
    "logger.name": "logger",
    "logger.project": "logger.wandb.project",
    "logger.entity": "logger.wandb.entity",
}
"""Earlier name of a setting to the present one."""
TOGETHER = {"data=imagenet": ("loss=classification", "augment=imagenet")}
"""What an option of a training is of no use without."""
YOUNGER = {"scheduler": "poly"}
"""Groups that earlier runs did not have, with the option that they trained by."""

LOSSES = "fastscnn.training.losses"
YOUNGER_LOSS = {"lovasz_weight": 0.0, "dice_weight": 0.0}
"""Settings of our loss of segmentation that earlier runs did not have, with what they did."""
YOUNGER_DATA = {"train_splits": ["train"], "held_out": None}
"""Settings of segmentation's data that earlier runs did not have, with what they did."""


def present_overrides(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with every setting under its present name."""
    split = [argument.partition("=") for argument in arguments]
    return ["".join((MOVED.get(name, name), equals, value)) for name, equals, value in split]


def with_companions(arguments: Sequence[str]) -> list[str]:
    """The arguments of a training with the options that one of them is of no use without, unless others are chosen."""
    groups = {argument.partition("=")[0] for argument in arguments}
    added = [
        companion
        for option, companions in TOGETHER.items()
        for companion in companions
        if option in arguments and "experiment" not in groups and companion.partition("=")[0] not in groups
    ]
    return [*arguments, *added]


def upgraded(config: DictConfig) -> DictConfig:
    """The config of a run that was started earlier, as it would be composed now; a new one is left as it is."""
    config = config.copy()
    data: Any = config.get("data")
    if data is not None and data.get("dataset") != "imagenet":
        with open_dict(data):
            for name, value in YOUNGER_DATA.items():
                data.setdefault(name, value)
    with open_dict(config):
        if data is not None and "callbacks" not in config:
            config.callbacks = {"progress": {"_target_": "fastscnn.training.progress.ProgressLine"}}
        config.logger = _named_loggers(config.get("logger"))
        if data is not None and "init" not in config:
            config.init = {"checkpoint": None, "freeze": []}
        if data is not None and "distill" not in config:
            config.distill = {"checkpoint": None, "sha256": None, "weight": 1.0, "temperature": 1.0}
        _name_classes(config)
        for name in ("pretrain", "init"):
            if isinstance(config.get(name), DictConfig):
                config[name].setdefault("sha256", None)
    if config.get("optimizer") is None or "scheduler" in config:
        return config
    with open_dict(config):
        settings = dict(config.optimizer.items_ex(resolve=False))
        schedule = {"_target_": "fastscnn.training.schedules.poly", "power": settings.pop("power", 0.9)}
        config.optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "fused": "auto", **settings}
        config.scheduler = {**schedule, "warmup_steps": 0}
    return config


def _name_classes(config: DictConfig) -> None:
    """Name the classes of the loss and the trainer, which were not named before."""
    if isinstance(config.get("trainer"), DictConfig):
        config.trainer.setdefault("_target_", "pytorch_lightning.Trainer")
    loss = config.get("loss")
    if isinstance(loss, DictConfig) and "_target_" not in loss:
        kind = "ImageLoss" if loss.pop("name", None) == "classification" else "SegmentationLoss"
        loss["_target_"] = f"{LOSSES}.{kind}"
    if isinstance(loss, DictConfig) and loss["_target_"] == f"{LOSSES}.SegmentationLoss":
        for name, value in YOUNGER_LOSS.items():
            loss.setdefault(name, value)


def _named_loggers(logger: Any) -> Any:
    """The `logger` node of an earlier run, which named one logger by `name`, as a mapping of loggers."""
    if logger is None or not isinstance(logger.get("name"), str):
        return logger
    if logger.name == "csv":
        return {"csv": {"_target_": "fastscnn.runs.metrics_csv.MetricsCSV"}}
    settings = {name: value for name, value in logger.items_ex(resolve=False) if name != "name"}
    return {"wandb": {"_target_": "pytorch_lightning.loggers.WandbLogger", **settings}}
