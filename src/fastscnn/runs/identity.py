"""A run's identity: its name, tags and group, from the options that were chosen."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fastscnn.runs.jobs import current_multirun
from fastscnn.runs.studies import STUDIES, TAG, with_study

GROUPS = {
    "data": "streets",
    "model": "fast_scnn",
    "skip": "keep",
    "activation": "relu",
    "pretrain": "none",
    "resolution": "full",
    "augment": "paper",
}
"""The groups that a run's name is made of, with their default options."""
TRAINED_BY = {"loss": "cross_entropy", "optimizer": "sgd", "scheduler": "poly", "callbacks": ""}
"""Groups that are part of a run's name if their option is not the default."""
OF_IMAGES = {"augment": "imagenet", "loss": "classification"}
"""Default options of a training on ImageNet that differ from these."""
PLAIN_CALLBACKS = ("progress", "lr_monitor", "notify")
"""Callbacks that do not change a run."""
LONGEST = 100
"""Letters of a run's title; W&B takes names of 128."""
LISTS = ("callbacks", "logger")
"""Groups that take several options at once."""
VALUES = {"model": "model.name", "skip": "model.skip", "activation": "model.activation"}
"""Groups that choose one setting, and that setting."""
EXTERNAL = "external"
"""The option of `model` for any network, which has a name of its own, and of `data` for any data module."""
RESOLUTIONS = {2.0: "double", 1.0: "full", 0.5: "half", 0.25: "quarter"}


@dataclass(frozen=True)
class Identity:
    """A run's identity, derived only from what was chosen: an overridden experiment never has the wrong label.

    Attributes:
        choices: Group to option, for all groups of this project; includes `experiment` if one was named.
        group: The runs that it is displayed with: those of its multirun, or those of the same name.
        overrides: Setting to value, as text, for the settings on the command line that are not groups.
        studies: The multiruns that it is a job of.
        swept: The settings that its multirun, or W&B's sweep, varies.
        job_type: `train` or `eval`.
    """

    choices: Mapping[str, str]
    group: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    studies: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    job_type: str = "train"

    @property
    def name(self) -> str:
        """The data option, then each group whose option is not the default: `fine-skip_zero`."""
        data = self.choices.get("data", "data")
        parts = [data]
        for group, default in self._defaults().items():
            option = self.choices.get(group, default)
            if group != "data" and option != default:
                parts.append(f"{group}_{option}")
        return "-".join(parts)

    def _defaults(self) -> dict[str, str]:
        return GROUPS | TRAINED_BY | (OF_IMAGES if self.choices.get("data") == "imagenet" else {})

    def title(self, seed: int | None) -> str:
        """What a legend shows: the name, the swept settings that it does not hold, and the seed."""
        values = [f"{key}={self.overrides[key]}" for key in self.swept if key in self.overrides and key != "seed"]
        return " ".join([self.name, *values, *([] if seed is None else [f"seed={seed}"])])[:LONGEST]

    @property
    def tags(self) -> list[str]:
        """`group=option` for the groups that make the run, and for how it trains where that is not the default."""
        defaults = self._defaults()
        others = [group for group in TRAINED_BY if self.choices.get(group, defaults[group]) != defaults[group]]
        named = [group for group in (*GROUPS, *others, "experiment") if group in self.choices]
        return [*(f"{group}={self.choices[group]}" for group in named), *(f"{TAG}{study}" for study in self.studies)]

    def flat(self, seed: int | None) -> dict[str, str | int | None]:
        """Flat keys for comparing runs: each group, the experiment and the seed."""
        groups = {group: self.choices.get(group) for group in (*GROUPS, "experiment")}
        return {**groups, "seed": seed, "study": self.studies[-1] if self.studies else None}


def chosen_identity(config: DictConfig) -> Identity:
    """The identity of the job that Hydra is running with this config.

    `model`, `skip`, `activation` and `resolution` are named by their values, so that `model.skip=zero` has the same
    label as `skip=zero`.
    """
    hydra = HydraConfig.get()
    choices = {
        group: str(option)
        for group, option in hydra.runtime.choices.items()
        if "/" not in group and option is not None and str(option) != "null"
    }
    option = choices.get("model", EXTERNAL)
    for group, key in VALUES.items():
        if value := OmegaConf.select(config, key):
            choices[group] = value
    if choices.get("model") == EXTERNAL:  # the user's own option of the group, or the name of the class
        target = str(OmegaConf.select(config, "model.network._target_"))
        choices["model"] = target.rpartition(".")[2] if option == EXTERNAL else option
    if scale := OmegaConf.select(config, "resolution.scale"):
        choices["resolution"] = RESOLUTIONS.get(scale, str(scale))
    own = ("augment",) if OmegaConf.select(config, "data.dataset") == EXTERNAL else ()  # its frames are its own
    for group in (*LISTS, *own):  # groups of which Hydra knows no option, or the option is not used
        choices.pop(group, None)
    if chosen := [str(name) for name in OmegaConf.select(config, "callbacks") or {} if name not in PLAIN_CALLBACKS]:
        choices["callbacks"] = "+".join(chosen)
    choices["logger"] = logger_choice(config)
    pairs = (override.lstrip("+~").partition("=") for override in hydra.overrides.task)
    labelled = {*hydra.runtime.choices, *LISTS, *VALUES.values(), "resolution.scale"}
    overrides = {key: value for key, _, value in pairs if key not in labelled}
    identity = Identity(choices, overrides=overrides)
    if hydra.mode != RunMode.MULTIRUN:
        swept = tuple(overrides) if "WANDB_SWEEP_ID" in os.environ else ()
        return replace(identity, group=identity.name, swept=swept)
    multirun = current_multirun()
    group = multirun.group if multirun else Path(hydra.sweep.dir).name
    return replace(identity, group=group, studies=(group,), swept=multirun.swept if multirun else ())


def logger_choice(config: DictConfig) -> str:
    """The loggers that are chosen, as a record names them: `csv+tensorboard`; `csv` where there is no other."""
    return "+".join(str(name) for name, node in (OmegaConf.select(config, "logger") or {}).items() if node) or "csv"


def recorded_identity(record: Mapping[str, Any]) -> Identity:
    """The identity of a resumed run: what its record says, not what Hydra composes today."""
    identity = Identity(record["choices"], overrides=record.get("overrides", {}))
    multirun = current_multirun()
    studies = with_study(record.get(STUDIES) or [], multirun.group if multirun else None)
    return replace(identity, group=record.get("group") or identity.name, studies=tuple(studies))
