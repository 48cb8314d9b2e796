"""The loggers of the `logger` group, beside `metrics.csv`, which every run has."""

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from fastscnn.runs.identity import Identity
from fastscnn.runs.metrics_csv import MetricsCSV
from fastscnn.runs.record import RunRecord
from fastscnn.runs.tracker import Tracker
from fastscnn.runs.wandb_tracker import finish_seconds, wandb_tracker
from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import OF_HYDRA, TARGET, build, check_arguments, named_object, parameters

OF_THE_RUN = ("save_dir", "run_id", "path", "experiment", "id", "dir", "resume")
"""Arguments that the run gives to a logger: its folder, and what identifies it there when it is resumed."""
LIBRARIES: dict[type[Logger], tuple[str, ...]] = {
    TensorBoardLogger: ("tensorboard", "tensorboardX"),
    MLFlowLogger: ("mlflow",),
}
"""The module that a logger of Lightning's needs, or any of several; the first is also what pip calls it."""
TAKE_FURTHER: dict[type[Logger], str] = {
    WandbLogger: "wandb.init",
    TensorBoardLogger: "torch.utils.tensorboard.SummaryWriter",
}
"""What a logger that takes any argument hands those to that are not its own."""
TITLES: dict[type[Logger], str] = {TensorBoardLogger: "TensorBoard", MLFlowLogger: "MLflow", CSVLogger: "CSVLogger"}


def check_loggers(config: DictConfig) -> None:
    """Check the `logger` config before anything starts; the loggers themselves are built within the run.

    Raises:
        RequestError: A class cannot be imported, is no logger, needs a library that is not installed, or does not take
            an argument; or a sweep of W&B's would be mixed with a multirun.
    """
    for name, node in nodes(config).items():
        key = f"logger.{name}"
        kind = named_object(node, key)
        if not (isinstance(kind, type) and issubclass(kind, Logger)):
            raise RequestError(
                f"{key}.{TARGET}={node[TARGET]} is no logger of Lightning's.",
                key=f"{key}.{TARGET}",
                fix="Name a class that is one, such as pytorch_lightning.loggers.CSVLogger.",
            )
        for modules in (LIBRARIES[known] for known in LIBRARIES if issubclass(kind, known)):
            if not any(find_spec(module) for module in modules):
                problem = f"logger={name} needs {modules[0]}, which is not installed."
                raise RequestError(problem, key="logger", fix=f"Run pip install {modules[0]}, or leave {name} out.")
        _check_arguments(node, key, kind)
    wandb_id = os.environ.get("WANDB_RUN_ID")
    if wandb_id and uses_wandb(config) and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise RequestError(
            f"-m with WANDB_RUN_ID={wandb_id}: every job would write into that one W&B run.",
            key="logger",
            fix="Leave -m out of a sweep's command, or unset WANDB_RUN_ID.",
        )


def nodes(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Name to settings of the loggers that are chosen; a name whose value is null is left out.

    Raises:
        RequestError: One is no mapping.
    """
    found: dict[str, dict[str, Any]] = {}
    chosen: Any = OmegaConf.select(config, "logger") or {}
    for name, node in chosen.items():
        if node is not None and not isinstance(node, DictConfig):
            raise RequestError(
                f"logger.{name}={node} is no logger.",
                key=f"logger.{name}",
                fix="Choose options, as in logger=[csv,tensorboard].",
            )
        if node is not None:
            found[str(name)] = {str(key): value for key, value in _plain(node).items()}
    return found


def uses_wandb(config: DictConfig) -> bool:
    """Whether W&B is among the loggers."""
    return any(_is(named_object(node, f"logger.{name}"), WandbLogger) for name, node in nodes(config).items())


@contextlib.contextmanager
def opened_loggers(config: DictConfig, record: RunRecord, identity: Identity) -> Iterator[list[Tracker]]:
    """The chosen loggers but `metrics.csv`, open within this block and closed in the way that it ends.

    Raises:
        RequestError: A logger does not take its settings.
    """
    with contextlib.ExitStack() as stack:
        trackers = []
        for name, node in nodes(config).items():
            kind = named_object(node, f"logger.{name}")
            if _is(kind, MetricsCSV):
                continue
            if _is(kind, WandbLogger):
                tracker, seconds = wandb_tracker(config, node, record, identity), finish_seconds()
            else:
                tracker, seconds = _tracker(name, node, kind, config, record, identity), None
            trackers.append(stack.enter_context(tracker.running(seconds)))
        yield trackers


def _tracker(
    name: str, node: Mapping[str, Any], kind: type[Logger], config: DictConfig, record: RunRecord, identity: Identity
) -> Tracker:
    """Any logger of Lightning's inside a `Tracker`.

    It gets the run's folder as `save_dir` and its name as `run_name`, and a resumed run its earlier `run_id`, where the
    class takes them.
    """
    settings: Any = _plain(config)
    taken, _ = parameters(kind)
    known = record.data.get("loggers", {}).get(name)
    given = {
        "save_dir": str(record.folder),
        "run_name": f"{identity.title(config.get('seed'))} {record.data['id']}",
        "run_id": known,
    }
    given = {key: value for key, value in given.items() if key in taken and key not in node and value is not None}

    @contextlib.contextmanager
    def opened() -> Iterator[Logger]:
        Path(config.paths.output_dir).mkdir(parents=True, exist_ok=True)  # where a database of all runs may lie
        logger: Any = build(node, f"logger.{name}", **given)
        if "run_id" in taken and known is None:
            record.update(loggers=record.data.get("loggers", {}) | {name: logger.run_id})
        if not record.data.get("resumed"):
            logger.log_hyperparams({**settings, **identity.flat(config.get("seed"))})
        try:
            yield logger
        except BaseException:
            logger.finalize("failed")
            raise
        logger.finalize("success")

    return Tracker(next((title for one, title in TITLES.items() if issubclass(kind, one)), name), kind, opened)


def _check_arguments(node: Mapping[str, Any], key: str, kind: type[Logger]) -> None:
    for name in OF_THE_RUN:
        if name in node:
            raise RequestError(
                f"{key}.{name} is given by the run itself.", key=f"{key}.{name}", fix=f"Drop it: '~{key}.{name}'."
            )
    check_arguments(node, key, kind)
    further = {name: value for name, value in node.items() if name not in (*parameters(kind)[0], *OF_HYDRA)}
    for known, target in TAKE_FURTHER.items():
        if further and _is(kind, known):  # W&B is slow to import
            check_arguments({TARGET: target, **further}, key, named_object({TARGET: target}, key))


def _is(kind: object, of: type) -> bool:
    return inspect.isclass(kind) and issubclass(kind, of)


def _plain(node: DictConfig) -> dict[Any, Any]:
    plain: Any = OmegaConf.to_container(node, resolve=True)
    return dict(plain)
