"""Checks of a composed config before anything starts, and what is wrong with an override that does not compose."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from yaml import MarkedYAMLError

from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_switch

OPEN = ("optimizer.", "scheduler.", "loss.", "callbacks.", "logger.", "trainer.", "model.network.", "data.module.")
"""Where the arguments of a class stand that may be anybody's."""
SWITCHES = ("rerun", "calibrate", "report", "dry_run", "data.evaluate_test")
"""Settings that a command asks for itself: any word but `false` would be taken as true."""
LISTS = ("callbacks", "logger")
"""Groups that take several options at once, which are no choice that Hydra knows of."""
EXTERNAL = ("model.network._target_", "data.module._target_")


def check_config(config: DictConfig) -> None:
    """Check that nothing is left to set, and the switches of commands. All else is checked by what takes it.

    Raises:
        RequestError: Names the key.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise RequestError(f"{missing[0]} is not set.", key=missing[0], fix=f"Set {missing[0]}=VALUE; see --help.")
    for switch in SWITCHES:
        check_switch(switch, OmegaConf.select(config, switch, default=False))


def explain(error: Exception, conf: Path, config_name: str) -> str:
    """One sentence for an override that Hydra could not apply, with the nearest right one."""
    text = str(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        where = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
        return f"{where} is no YAML ({error.problem}): correct it."
    if folder := re.search(r"Additional config directory '(.+)' not found", text):
        return f"--config-dir={folder.group(1)}: there is no such folder. Name the one that holds your groups."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = error.options or _options(conf, group)  # Hydra names none of a group that takes a list
        return (
            f"{group}={option}: there is no such option.{_did_you_mean(option, options, group + '=')} "
            f"Options of {group}: {', '.join(options)}."
        )
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in", text)
    if unknown:
        key = unknown.group(1)
        composed = _composed(conf, config_name)
        known = [*_groups_of(composed), *_keys(_plain(composed))]
        if key in _groups(conf) and key not in _groups_of(composed) and not (key in LISTS and key in composed):
            return f"{config_name}.py has no group {key}: leave it out. See --help for its settings."
        if key in known:
            return f"{key} does not belong to what was chosen beside it, only to the defaults: leave {key} out."
        if key in EXTERNAL:
            group = key.partition(".")[0]
            return f"{key} is a setting of {group}=external: add {group}=external."
        place, _, name = key.rpartition(".")
        is_open = place not in known or f"{place}._target_" in known  # not `trainer` of eval.py, and not `callbacks`
        if key.startswith(OPEN) and key.partition(".")[0] in composed and is_open:
            beside = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == place]
            return (
                f"{key}: there is no such setting.{_did_you_mean(name, beside, f'{place}.')} An argument of its class "
                f"that is not there yet is given as +{key}=VALUE."
            )
        return f"{key}: there is no such setting.{_did_you_mean(key, known)} See --help for all of them."
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several.group(1)} names several values: add -m for one run with each of them, or name one."
    example = "'data.masks=\"masks/{name}.png\"'" if "{" in text else "'data.root=\"~/my data\"'"
    first_lines = " ".join(line.strip() for line in text.splitlines()[:3] if line.strip())
    cause = f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ and str(error.__cause__) else ""
    return (
        f"The command line could not be read: {first_lines}{cause}. Quote a value that holds special "
        f"characters, as in {example}; see --help for the settings."
    )


def broken_reference(error: Exception) -> str:
    """One sentence for an error of OmegaConf's about a value, most of all a `${...}` that refers to nothing."""
    first = str(error).partition("\n")[0]
    key = getattr(error, "full_key", None)
    return f"{key}: {first}. Correct it in the file or the override that sets it." if key else first


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


def _options(conf: Path, group: str) -> list[str]:
    return sorted(file.stem for file in (conf / group).glob("*.yaml"))


def _composed(conf: Path, config_name: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        try:
            return compose(config_name, return_hydra_config=True)
        except HydraException:
            return OmegaConf.create()


def _groups_of(config: DictConfig) -> list[str]:
    """The groups that a command has, of a config that `_composed` gave."""
    return [str(group) for group in OmegaConf.select(config, "hydra.runtime.choices") or {}]


def _plain(config: DictConfig) -> dict[Any, Any]:
    """The config as dictionaries without Hydra's own part, interpolations as they are written."""
    plain = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in plain.items() if key != "hydra"} if isinstance(plain, dict) else {}


def _keys(config: Mapping[Any, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += _keys(value, f"{prefix}{key}.")
    return keys
