"""Trained networks as `model.safetensors` and a plain `config.json`, in a folder or on the Hugging Face Hub."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastscnn.data.classes import ClassTable
from fastscnn.data.normalize import MEAN, STD
from fastscnn.errors import RequestError
from fastscnn.inference.trained import Trained, rebuild
from fastscnn.runs.record import plain_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
NORMALIZATION = {"mean": list(MEAN), "std": list(STD)}
"""Of RGB from 0 to 1."""
KEPT = ("model", "resolution", "data")
"""The parts of the training config that are kept."""


def save_pretrained(folder: str | Path, trained: Trained, *, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a network without the heads that only training needs.

    `model.safetensors` has its tensors; `config.json` the settings of the network, the class table, the resolution, the
    normalisation, the versions, and the metrics. Nothing in them is ever executed.

    Args:
        folder: Is made where it is missing; the two files are replaced.
        trained: The network.
        metrics: What it reached, such as `val/miou`.

    Returns:
        The folder.
    """
    from safetensors.torch import save_file

    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: trained.config[key] for key in KEPT if key in trained.config}
    if "data" in config:
        config["data"] = {**config["data"], "root": None}
    content = {
        "library": "fastscnn",
        "config": config,
        "classes": asdict(trained.classes),
        "normalization": NORMALIZATION,
        "metrics": dict(metrics or {}),
        "versions": {name: metadata.version(name) for name in ("fastscnn", "torch", "safetensors")},
    }
    tensors = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(plain_json(content), indent=2) + "\n")
    return folder


def from_pretrained(name: str | Path, *, skip: str | None = None, revision: str | None = None) -> Trained:
    """Rebuild a network that `save_pretrained` wrote.

    Args:
        name: Its folder, the `model.safetensors` in it, or a repository on the Hub, `OWNER/NAME`.
        skip: `keep` or `zero` instead of what the network was trained with (section 3.2).
        revision: Branch, tag or commit of the repository.

    Raises:
        RequestError: It is not there, it cannot be reached, or its files are damaged or do not fit one another.
    """
    weights, config = _files(name, revision)
    content = _read_config(config)
    classes = ClassTable(**{key: _tuples(value) for key, value in content["classes"].items()})
    return rebuild(content["config"], classes, _read_tensors(weights), weights, skip=skip)


def push_to_hub(
    repository: str, trained: Trained, *, metrics: Mapping[str, float] | None = None, private: bool = False
) -> str:
    """Write a network to the Hub, into a repository that is made where it is missing; the address of the commit.

    Args:
        repository: `OWNER/NAME`; the token is the one of `hf auth login`.
        trained: The network.
        metrics: What it reached, such as `val/miou`.
        private: Whether a new repository is private.

    Raises:
        RequestError: The Hub cannot be reached, or does not allow it.
    """
    from huggingface_hub import HfApi

    with TemporaryDirectory() as folder:
        save_pretrained(folder, trained, metrics=metrics)
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder))
        except (OSError, ValueError) as error:  # what the Hub's errors are
            raise RequestError(
                f"{repository} cannot be written to the Hub: {_first_line(error)} Look at the connection and at "
                "`hf auth login`."
            ) from None


def _files(name: str | Path, revision: str | None) -> tuple[Path, Path]:
    """The weights and the config, on this machine."""
    local = Path(name).expanduser()
    if local.is_dir():
        files = local / WEIGHTS, local / CONFIG
    elif local.is_file():
        files = local, local.parent / CONFIG
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return _download(str(name), revision)
    else:
        raise RequestError(
            f"{name} is neither a folder with {WEIGHTS} nor a repository on the Hub: name one of them, or OWNER/NAME."
        )
    for file in files:
        if not file.is_file():
            raise RequestError(
                f"{file} is missing: {WEIGHTS} and {CONFIG} belong together, as format=safetensors of export.py "
                "writes them. For a checkpoint of a run name the file, checkpoints/best.ckpt."
            )
    return files


def _download(repository: str, revision: str | None) -> tuple[Path, Path]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    at = f" at {revision}" if revision else ""
    try:
        weights, config = (Path(hf_hub_download(repository, file, revision=revision)) for file in (WEIGHTS, CONFIG))
    except RepositoryNotFoundError:
        raise RequestError(
            f"{repository} is no folder here, and there is no such repository on the Hub: look at the name; a private "
            "one needs `hf auth login`."
        ) from None
    except LocalEntryNotFoundError:
        raise RequestError(
            f"{repository} is no folder here and lies in no cache, and the Hub cannot be reached: look at the name or "
            "at the connection."
        ) from None
    except EntryNotFoundError:
        raise RequestError(
            f"{repository}{at} on the Hub has no {WEIGHTS} with a {CONFIG}: save_pretrained did not write it."
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{repository}{at} cannot be loaded from the Hub: {_first_line(error)}") from None
    return weights, config


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        raise RequestError(f"{file} is no whole JSON file: write it again with save_pretrained.") from None
    expected = ("config", "classes", "normalization")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in expected):
        raise RequestError(f"{file} was not written by save_pretrained: it lacks one of {', '.join(expected)}.")
    if content["normalization"] != NORMALIZATION:
        raise RequestError(
            f"{file} asks for normalization {content['normalization']}, and this version has {NORMALIZATION} alone: "
            "use the version that wrote it."
        )
    if set(content["classes"]) != set(ClassTable.__dataclass_fields__) or "model" not in content["config"]:
        raise RequestError(f"{file} was not written by save_pretrained: its classes or its model are incomplete.")
    return content


def _read_tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{file} is damaged or no safetensors file: {_first_line(error)}") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__).strip()
    return line if line.endswith(".") else f"{line}."
