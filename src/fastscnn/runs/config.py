"""Checks of a composed config before anything starts, and what is wrong with an override that does not compose."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from fastscnn.utils.errors import RequestError


def _whole(minimum: int, *words: str) -> tuple[Callable[[Any], bool], str]:
    def holds(value: Any) -> bool:
        return value in words or (isinstance(value, int) and not isinstance(value, bool) and value >= minimum)

    return holds, " or ".join([*words, f"a whole number of {minimum} or more"])


def _number(holds: Callable[[float], bool], text: str) -> tuple[Callable[[Any], bool], str]:
    def check(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and holds(value)

    return check, text


def _one_of(*options: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in options, "one of " + ", ".join(
        "null" if option is None else str(option) for option in options
    )


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_whole(1)[0](side) for side in value)


POSITIVE = _number(lambda value: value > 0, "a number above 0")
NOT_NEGATIVE = _number(lambda value: value >= 0, "a number of 0 or more")
SHARE = _number(lambda value: 0 <= value < 1, "a number from 0 to below 1")
WHOLE_SHARE = _number(lambda value: 0 <= value <= 1, "a number from 0 to 1")
SWITCH = _one_of(True, False)

REQUIREMENTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda value: _whole(0)[0](value) and value < 2**32, "a whole number from 0 to 2**32 - 1"),
    "data.batch_size": _whole(1),
    "data.num_workers": _whole(0, "auto"),
    "data.store": (
        lambda value: value is None or value is False or (isinstance(value, str) and value.strip() != ""),
        "auto, off or a folder",
    ),
    "data.device": _one_of("auto", "cpu", "gpu"),
    "data.exif": _one_of(None, "refuse", "apply", "ignore"),
    "data.max_pixels": (lambda value: value is None or _whole(1)[0](value), "a whole number of 1 or more"),
    "data.train_splits": (
        lambda value: isinstance(value, list) and value in (["train"], ["val"], ["train", "val"], ["val", "train"]),
        "[train], [train,val] or [val]",
    ),
    "data.crop_size": (lambda value: value == "full" or _is_size(value), "full or two whole numbers, [H,W]"),
    "data.crop_pct": _number(lambda value: 0 < value <= 1, "a number above 0, up to 1"),
    "data.max_epochs": _whole(1),
    "data.lr": POSITIVE,
    "model.in_channels": _one_of(3),
    "model.activation": _one_of("relu", "relu6"),
    "model.skip": _one_of("keep", "zero"),
    "model.dropout": SHARE,
    "resolution.scale": _number(lambda value: 0 < value <= 4, "a number above 0, up to 4"),
    "loss.auxiliary_weight": NOT_NEGATIVE,
    "loss.label_smoothing": SHARE,
    "optimizer.lr": POSITIVE,
    "optimizer.momentum": SHARE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.fused": _one_of("auto", True, False, None),
    "scheduler.power": NOT_NEGATIVE,
    "scheduler.warmup_steps": (lambda value: value is None or _whole(0)[0](value), "a whole number of 0 or more"),
    "trainer.max_epochs": _whole(1),
    "trainer.devices": _whole(1),
    "trainer.accelerator": _one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.limit_train_batches": POSITIVE,
    "trainer.limit_val_batches": POSITIVE,
    "trainer.accumulate_grad_batches": _whole(1),
    "trainer.check_val_every_n_epoch": _whole(1, "auto"),
    "trainer.precision": _one_of(None, "auto", "32-true", "bf16-mixed", "16-mixed"),
    **{f"trainer.{switch}": SWITCH for switch in ("compile", "channels_last")},
    "trainer.keep_memory": _one_of("auto", True, False),
    "trainer.profile_steps": _whole(0),
    "trainer.save_every_minutes": POSITIVE,
    "trainer.save_every_epochs": _whole(1),
    "trainer.recompute": _one_of("auto", True, False),
    "trainer.cuda_graph": _one_of("auto", True, False),
    "trainer.sync_batchnorm": _one_of(True, False, "auto"),
    "trainer.deterministic": _one_of(True, False, "warn"),
    "trainer.gradient_clip_val": (
        lambda value: value is None or POSITIVE[0](value),
        "null or a number above 0",
    ),
    "logger.name": _one_of("wandb", "csv"),
    "augment.flip": WHOLE_SHARE,
    "augment.channel_shift": NOT_NEGATIVE,
    **{f"augment.{setting}": NOT_NEGATIVE for setting in ("color_jitter", "mixup", "cutmix")},
    "augment.brightness": WHOLE_SHARE,
    "augment.crop_first": SWITCH,
    "data.streets.size": (_is_size, "two whole numbers, [H,W]"),
    **{f"data.streets.{count}": _whole(0) for count in ("train", "val", "test", "train_extra", "seed")},
    "pictures": _whole(0),
    "rerun": SWITCH,
    "overwrite": SWITCH,
    "opacity": WHOLE_SHARE,
    "format": _one_of(None, "cityscapes", "onnx", "openvino", "torch", "safetensors"),
    "label_values": _one_of("train_ids", "file_values"),
    "backend": _one_of("torch", "onnx", "openvino"),
    "device": _one_of("auto", "cpu", "cuda"),
    "threads": (
        lambda value: value is None or isinstance(value, list) or _whole(1)[0](value),
        "null or a whole number of 1 or more",
    ),
    "max_pixels": _whole(1),
    "keep_memory": SWITCH,
    "frames": _whole(1),
    "burn_in": _whole(0),
    "rounds": _whole(1),
    "seconds": POSITIVE,
    "split": _one_of("train", "val", "test"),
}


def check_config(config: DictConfig) -> None:
    """Check the values of a composed config.

    Raises:
        RequestError: A value is outside what it may be; names the key, the value and what is allowed.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise RequestError(f"{missing[0]} is not set. Set {missing[0]}=VALUE; see --help.")
    for key, (holds, requirement) in REQUIREMENTS.items():
        value = OmegaConf.select(config, key, default=...)
        if value is ...:
            continue
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        if not holds(value):
            raise RequestError(f"{key}={value} is not {requirement}. Set {key}= to such a value.")


def explain(error: Exception, conf: Path, config_name: str) -> str:
    """One sentence for an override that Hydra could not apply, with the nearest right one."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = error.options or []
        return (
            f"{group}={option}: there is no such option.{_did_you_mean(option, options, group + '=')} "
            f"Options of {group}: {', '.join(options)}."
        )
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in", text)
    if unknown:
        key = unknown.group(1)
        known = [*_groups(conf), *_keys(_composed(conf, config_name))]
        if key in known:
            return f"{key} does not belong to what was chosen beside it, only to the defaults: leave {key} out."
        return f"{key}: there is no such setting.{_did_you_mean(key, known)} See --help for all of them."
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several.group(1)} names several values: add -m for one run with each of them, or name one."
    first_lines = " ".join(line.strip() for line in text.splitlines()[:3] if line.strip())
    cause = f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ and str(error.__cause__) else ""
    return (
        f"The command line could not be read: {first_lines}{cause}. Quote a value that holds special "
        "characters, as in 'data.root=\"~/my data\"'; see --help for the settings."
    )


def _did_you_mean(word: str, candidates: Iterable[str], prefix: str = "") -> str:
    candidates = list(candidates)
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    if not near:
        leaf = word.rpartition(".")[2]
        leaves = {candidate.rpartition(".")[2]: candidate for candidate in candidates}
        near = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    return f" Did you mean {prefix}{near[0]}?" if near else ""


def _groups(conf: Path) -> list[str]:
    return sorted(folder.name for folder in conf.iterdir() if folder.is_dir() and folder.name != "hydra")


def _composed(conf: Path, config_name: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        try:
            return compose(config_name)
        except HydraException:
            return OmegaConf.create()


def _keys(config: Mapping[Any, Any], prefix: str = "") -> list[str]:
    keys = []
    for key in config:
        value = None if OmegaConf.is_missing(config, key) else config._get_node(key)  # type: ignore[attr-defined]
        keys.append(f"{prefix}{key}")
        if isinstance(value, DictConfig):
            keys += _keys(value, f"{prefix}{key}.")
    return keys
