"""The settings of a run: reading its config, and which settings may differ between two configs of one run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fastscnn.runs.renamed import upgraded
from fastscnn.utils.errors import RequestError
from fastscnn.utils.plain_files import read_yaml

CONFIG = Path(".hydra/config.yaml")
OVERRIDES = Path(".hydra/overrides.yaml")
GROUPS = ("data", "model", "optimizer", "trainer", "paths")
"""What the config of every run holds."""
CALL_SETTINGS = ("resume", "rerun", "replay", "paths", "optimized_metric", "notify", "trust")
"""Settings of one call of the command, not of the run."""
STARTS = ("pretrain", "init", "distill")
"""Groups of settings that name a file that a run starts or learns from: its `checkpoint`, and the digest, `sha256`."""
EXECUTION_SETTINGS = (
    "paths",
    "logger",
    "pictures",
    "resume",
    "rerun",
    "replay",
    "notify",
    "callbacks.notify",
    "optimized_metric",
    "trust",
    "data.num_workers",
    "data.loader",
    "data.store",
    "data.device",
    "data.max_pixels",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.sync_batchnorm",
    "trainer.compile",
    "trainer.cuda_graph",
    "trainer.fused_norm",
    "trainer.triton_depthwise",
    "trainer.log_every_n_steps",
    "trainer.save_every_epochs",
    "trainer.save_every_minutes",
)
"""Settings of how a run is executed and recorded: two configs that differ only in these ask for the same run.

One of them that a multirun sweeps counts there like any other setting.
"""
RESUMABLE_SETTINGS = (
    "data.root",
    "data.num_workers",
    "data.loader",
    "data.store",
    "data.device",
    "data.exif",
    "data.max_pixels",
    "data.max_epochs",
    "data.lr",
    "data.check_val_every_n_epoch",
    "data.evaluate_test",
    "distill.checkpoint",
    "trainer",
    "optimizer",
    "scheduler",
    "pictures",
    "logger",
)
"""Settings that a resumed run may change. Any other would make it another run."""
FIXED_SETTINGS = (
    "trainer.limit_train_batches",
    "trainer.profile_steps",
    "optimizer._target_",
    "scheduler._target_",
)
"""Exceptions from `RESUMABLE_SETTINGS`: the number of steps in an epoch, which the schedule depends on, and the classes
whose state a checkpoint holds."""


def in_settings(key: str, settings: Sequence[str]) -> bool:
    """Whether a setting is one of these, or in one of these groups."""
    return any(key == setting or key.startswith(f"{setting}.") for setting in settings)


def may_change(key: str) -> bool:
    """Whether a resumed run may change a setting."""
    return in_settings(key, RESUMABLE_SETTINGS) and not in_settings(key, FIXED_SETTINGS)


def read_run_config(folder: Path) -> DictConfig:
    """The config that a run was started with, or was resumed with last.

    Raises:
        RequestError: It is not there, or cannot be read.
    """
    file = folder / CONFIG
    try:
        config = read_yaml(file)
        if not isinstance(config, DictConfig):
            raise ValueError("it is not a config")
        if missing := [key for key in GROUPS if not isinstance(OmegaConf.select(config, key), DictConfig)]:
            raise ValueError(f"it has no {', '.join(missing)}")
        OmegaConf.resolve(config.copy())
    except (OSError, ValueError, OmegaConfBaseException) as error:
        cause = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        problem = f"{file} cannot be read ({cause})."
        raise RequestError(problem, key="resume", fix="Restore it from a copy, or start a new run.") from None
    return upgraded(config)


def read_run_overrides(folder: Path) -> list[str] | None:
    """The overrides that a run was started with; None if they are not there or cannot be read."""
    try:
        found = read_yaml(folder / OVERRIDES)
    except (OSError, ValueError):
        return None
    overrides = OmegaConf.to_container(found) if isinstance(found, ListConfig) else None
    if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
        return None
    return [str(override) for override in overrides]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, for every value of nested containers."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Plain containers of a config, resolved."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return dict(plain)


def recorded_settings(config: DictConfig) -> dict[str, Any]:
    """The settings that make a run what it is, as its record holds them: those of its execution are left out."""
    return {key: value for key, value in run_settings(config).items() if not in_settings(key, EXECUTION_SETTINGS)}


def recipe(settings: Mapping[str, Any]) -> str:
    """A short text that runs share whose settings differ in nothing but the seed: `1000 epochs, 3f2a91c0`.

    Args:
        settings: `recorded_settings` of a run.
    """
    places = ("seed", "data.root", *(f"{name}.checkpoint" for name in STARTS))
    kept = {key: value for key, value in settings.items() if not in_settings(key, places)}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]
    epochs = settings.get("trainer.max_epochs")
    return f"{epochs} epochs, {digest}" if epochs else digest


def run_settings(config: DictConfig) -> dict[str, Any]:
    """Dotted key to value of a config, without the settings that belong to the call."""
    return {key: value for key, value in flatten(to_plain(config)).items() if not in_settings(key, CALL_SETTINGS)}
