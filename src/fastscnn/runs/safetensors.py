"""Networks as `model.safetensors` and a plain `config.json` beside it: reading them as a checkpoint is read."""

import json
from pathlib import Path
from typing import Any

from fastscnn.utils.errors import RequestError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREFIX = "network."
"""What the names of the network's tensors begin with in a checkpoint, beside the auxiliary heads' tensors."""
PARTS = ("config", "classes", "normalization")
CLASSES = {"name", "names", "colors", "file_values", "ignored_values", "categories", "ignore_index"}


def is_saved(path: str | Path) -> bool:
    """Whether that is such a folder, or the weights in it."""
    return Path(path, WEIGHTS).is_file() or Path(path, CONFIG).is_file() or Path(path).suffix == ".safetensors"


def saved_files(path: str | Path) -> tuple[Path, Path]:
    """The weights and the config of a folder, or beside a file of weights.

    Raises:
        RequestError: One is missing.
    """
    path = Path(path)
    files = (path / WEIGHTS, path / CONFIG) if path.is_dir() else (path, path.parent / CONFIG)
    for file in files:
        if not file.is_file():
            raise RequestError(
                f"{file} is missing: {WEIGHTS} and {CONFIG} belong together, as format=safetensors of export.py "
                "writes them. For a checkpoint of a run name the file, checkpoints/best.ckpt."
            )
    return files


def read_saved(weights: Path, config: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the two files hold: the content of the config, and the tensors under a checkpoint's names.

    Raises:
        RequestError: A file is damaged, or was not written by `save_pretrained`; names it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    content = _read_config(config)
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{weights} is damaged or no safetensors file: {first_line(error)}") from None
    return content, {PREFIX + name: tensor for name, tensor in tensors.items()}


def first_line(error: Exception) -> str:
    """The first line of an error's words, as a sentence."""
    line = next(iter(str(error).splitlines()), type(error).__name__).strip()
    return line if line.endswith(".") else f"{line}."


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RequestError(f"{file} is no whole JSON file: write it again with save_pretrained.") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in PARTS):
        raise RequestError(f"{file} was not written by save_pretrained: it lacks one of {', '.join(PARTS)}.")
    if set(content["classes"]) != CLASSES or "model" not in content["config"]:
        raise RequestError(f"{file} was not written by save_pretrained: its classes or its model are incomplete.")
    content["classes"] = {key: tuples(value) for key, value in content["classes"].items()}
    return content


def tuples(value: Any) -> Any:
    """What JSON holds as lists, as the tuples that it was."""
    return tuple(tuples(entry) for entry in value) if isinstance(value, list) else value
