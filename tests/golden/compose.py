"""Every option of every group as `--cfg job` composes it: what differs from a main's defaults, without resolving."""

from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from parsed_once import each_file_parsed_once


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values; lists are values."""
    if isinstance(value, dict) and value:
        return {key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}


def composed(main: str, *overrides: str) -> dict[str, Any]:
    """The config of `python src/MAIN.py OVERRIDES --cfg job`, flat."""
    return flat(OmegaConf.to_container(compose(main, [*overrides])))


def defaults(conf: Path, main: str) -> tuple[dict[str, Any], set[str]]:
    """The config of a main by itself, flat, and the groups that it takes an option of.

    These are the groups of its own list of defaults, and those that they lead to.
    """
    listed = yaml.safe_load((conf / f"{main}.yaml").read_text(encoding="utf-8")).get("defaults", [])
    config = OmegaConf.to_container(compose(main, return_hydra_config=True))
    chosen = config.pop("hydra")["runtime"]["choices"]
    return flat(config), {name for entry in listed if isinstance(entry, dict) for name in entry} | {*map(str, chosen)}


def configs(root: Path) -> dict[str, dict[str, Any]]:
    """Main to its defaults, under "", and to the changes of each `group=option` that it takes.

    An option changes the values under `changed`, and takes away the keys under `removed`.
    """
    conf = root / "conf"
    found: dict[str, dict[str, Any]] = {}
    GlobalHydra.instance().clear()
    with each_file_parsed_once(), initialize_config_dir(str(conf), version_base="1.3"):
        for main in sorted(file.stem for file in conf.glob("*.yaml")):
            default, taken = defaults(conf, main)
            found[main] = {"": default}
            for file in sorted(conf.glob("*/*.yaml")):
                group, option = file.parent.name, f"{file.parent.name}={file.stem}"
                if group not in taken:
                    continue
                try:
                    config = composed(main, option)
                except (HydraException, OmegaConfBaseException):
                    taken.remove(group)
                    continue
                changed = {key: value for key, value in config.items() if default.get(key, ...) != value}
                removed = sorted(set(default) - set(config))
                found[main][option] = {"changed": changed} | ({"removed": removed} if removed else {})
    return found
