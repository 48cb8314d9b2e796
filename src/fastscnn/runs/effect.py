"""Settings on the command line that would have no effect beside what was chosen, and are refused for that."""

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fastscnn.runs.run_settings import in_settings
from fastscnn.utils.errors import RequestError

OF_VALIDATION = (
    "data.check_val_every_n_epoch",
    "trainer.check_val_every_n_epoch",
    "trainer.limit_val_batches",
    "pictures",
)
"""Settings of the validation: how often, on how much, and how much of it is drawn."""


RECOMMENDED = {
    "data.lr": "optimizer.lr",
    "data.max_epochs": "trainer.max_epochs",
    "data.check_val_every_n_epoch": "trainer.check_val_every_n_epoch",
    "data.scale": "augment.scale",
}
"""What a data option recommends, and the setting that takes it unless it is given a value of its own."""
OF_MULTIRUN = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep")
"""Settings of a multirun alone."""


def check_multirun_settings(config: DictConfig) -> None:
    """Check that a single run is not given settings of a multirun.

    Raises:
        RequestError: It is; names the setting.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return
    for override in hydra.overrides.hydra:
        name = str(override).lstrip("+").partition("=")[0]
        if in_settings(name, OF_MULTIRUN):
            raise RequestError(f"{override} is for a multirun, and this is a single run.", key=name, fix="Add -m.")
    if config.get("rerun"):
        raise RequestError(
            "rerun=true is for a multirun, which leaves out what is finished; a single run is always a new one.",
            key="rerun",
            fix="Leave rerun out, or add -m.",
        )


def check_effect(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check that what the command line of a training sets is used.

    Args:
        config: What is run.
        overrides: The command line.

    Raises:
        RequestError: A setting would be ignored; names it.
    """
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    given = {name: value for name, _, value in pairs}
    for name, present in RECOMMENDED.items():
        group, _, leaf = present.partition(".")
        node = config.get(group)
        if name in given and node is not None and not (leaf in node and OmegaConf.is_interpolation(node, leaf)):
            there = leaf in node
            value = (
                f"{present}={OmegaConf.select(config, present)} has a value of its own" if there else "nothing uses it"
            )
            raise RequestError(
                f"{name}={given[name]} has no effect, because {value}.",
                key=name,
                fix=f"Set {present}={given[name]}." if there else f"Leave {name} out.",
            )
    if OmegaConf.select(config, "data.dataset") == "imagenet" and given.get("pictures", "0") != "0":
        raise RequestError(
            f"pictures={given['pictures']} has no effect: images with one class each have no label maps to draw.",
            key="pictures",
            fix="Leave pictures out.",
        )
    if OmegaConf.select(config, "data.dataset") == "external":
        for name in given:
            if in_settings(name, ("augment",)):
                raise RequestError(
                    f"{name}={given[name]} has no effect, because data.module makes its own training frames.",
                    key=name,
                    fix=f"Leave {name} out.",
                )
    joined = "val" in (OmegaConf.select(config, "data.train_splits") or ())
    if joined and OmegaConf.select(config, "data.held_out") is None:
        for name in OF_VALIDATION:
            if name in given and given[name] not in ("0", "auto"):
                raise RequestError(
                    f"{name}={given[name]} is for a validation, and val is trained on (data.train_splits), so there is "
                    "none.",
                    key=name,
                    fix=f"Leave {name} out, or validate on a drive with data.held_out=NAME.",
                )
