"""Training again from a run's record: `replay=RUN`, with the config and the seed that it had."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from fastscnn.runs.identity import Identity, recorded_identity
from fastscnn.runs.provenance import code_of, data_of, differing, machine_of, read_packages
from fastscnn.runs.record import read_record
from fastscnn.runs.resume import recorded_folder
from fastscnn.runs.run_settings import CONFIG, EXECUTION_SETTINGS, in_settings, read_run_config, to_plain
from fastscnn.runs.trust import check_trusted, named_targets, targets_in, trusted_packages
from fastscnn.utils.errors import RequestError

MAY_CHANGE = (*EXECUTION_SETTINGS, "data.root")
"""Settings of how and where it is executed: with any other it would not be the same training."""
NAMED = 8
"""Packages of other versions that are named."""


def replayed(given: str | Path, overrides: Sequence[str], composed: DictConfig) -> tuple[DictConfig, Identity, Path]:
    """The config and the identity of a run that is trained again, and the folder of its record.

    Raises:
        RequestError: There is no such run, or the command line would make it another one.
    """
    folder = recorded_folder(given, "replay")
    record, config = read_record(folder), read_run_config(folder)
    with open_dict(config):
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            key = override.key_or_group
            if override.is_delete() or not in_settings(key, MAY_CHANGE):
                raise RequestError(
                    f"replay={folder}: {key} would make it another training than the recorded one.",
                    key=key,
                    fix=f"Leave {key} out, or start a new run without replay.",
                )
            if key == "logger":
                config.logger = composed.get("logger") or {}
            elif not key.startswith("paths.") and key != "replay":
                OmegaConf.update(config, key, override.value(), force_add=True)
        config.paths, config.resume, config.rerun, config.replay = composed.paths, None, False, None
    own = named_targets(overrides) | targets_in(to_plain(composed))
    trust = trusted_packages(OmegaConf.select(composed, "trust"))
    check_trusted(to_plain(config), own, source=str(folder / CONFIG), trust=trust)
    identity = recorded_identity({**record, "group": None, "studies": []})
    return config, replace(identity, group=identity.name), folder


def told_apart(folder: Path, now: Mapping[str, Any], own: Path) -> Iterator[str]:
    """Lines that say which of code, packages, data and machine differ from those of the recorded run."""
    before = read_record(folder)
    same = []
    for what, of in (("code", code_of), ("data", data_of), ("machine", machine_of)):
        if changes := differing(of(before), of(now)):
            yield f"replay: {what} differs: " + "; ".join(f"{key} {a} -> {b}" for key, (a, b) in changes.items())
        else:
            same.append(what)
    if versions := differing(read_packages(folder, before), read_packages(own, now)):
        first = [f"{name} {a} -> {b}" for name, (a, b) in list(versions.items())[:NAMED]]
        more = [f"{len(versions) - NAMED} more"] if len(versions) > NAMED else []
        yield f"replay: {len(versions)} packages differ: " + "; ".join([*first, *more])
    else:
        same.append("packages")
    if same:
        yield f"replay: the same: {', '.join(same)}"
