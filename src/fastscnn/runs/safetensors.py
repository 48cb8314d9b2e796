"""Reading a network saved as `model.safetensors` with a plain `config.json`, in the form of a checkpoint."""

from pathlib import Path
from typing import Any
from zlib import crc32

from fastscnn.utils.errors import RequestError
from fastscnn.utils.plain_files import read_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREFIX = "network."
"""Prefix of the network's tensors in a checkpoint, which also holds the tensors of the auxiliary heads."""
CHECKSUM = "weights_crc32"
"""Key of the config for the checksum of the file of weights."""
PARTS = ("config", "classes", "normalization")
WRITE_AGAIN = "Write it again with save_pretrained or export.py format=safetensors."


def is_saved(path: str | Path) -> bool:
    """Whether the path is a folder with these two files, or a file of weights."""
    return Path(path, WEIGHTS).is_file() or Path(path, CONFIG).is_file() or Path(path).suffix == ".safetensors"


def saved_files(path: str | Path) -> tuple[Path, Path]:
    """The two files in a folder, or a file of weights and the config beside it.

    Raises:
        RequestError: One of them is missing.
    """
    path = Path(path)
    files = (path / WEIGHTS, path / CONFIG) if path.is_dir() else (path, path.parent / CONFIG)
    for file in files:
        if not file.is_file():
            raise RequestError(
                f"{file} is missing: {WEIGHTS} and {CONFIG} belong together, as format=safetensors of export.py "
                "writes them.",
                key="checkpoint",
                fix="Name a folder with both, or for a run's checkpoint the file, checkpoints/best.ckpt.",
            )
    return files


def read_saved(weights: Path, config: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the content of the config, and the tensors under the names that they have in a checkpoint.

    Raises:
        RequestError: A file is damaged, or was not written by `save_pretrained`; names it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _read_config(config)
    try:
        data = weights.read_bytes()
        if content.get(CHECKSUM, crc32(data)) != crc32(data):
            problem = f"{weights} is damaged or does not belong to {config.name}: its checksum is not the one there."
            fix = f"Copy both again; if you changed the weights, take {CHECKSUM} out of {config.name}."
            raise RequestError(problem, key="checkpoint", fix=fix)
        tensors = load(data)
    except (SafetensorError, OSError) as error:
        problem = f"{weights} is damaged or is not a safetensors file: {first_line(error)}"
        raise RequestError(problem, key="checkpoint", fix=WRITE_AGAIN) from None
    return content, {PREFIX + name: tensor for name, tensor in tensors.items()}


def first_line(error: Exception) -> str:
    """The first line of an error's message, as a sentence."""
    line = next(iter(str(error).splitlines()), type(error).__name__).strip()
    return line if line.endswith(".") else f"{line}."


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        problem = f"{file} cannot be read ({error})."
        raise RequestError(problem, key="checkpoint", fix=WRITE_AGAIN) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in PARTS):
        problem = f"{file} was not written by save_pretrained: it lacks one of {', '.join(PARTS)}."
        raise RequestError(problem, key="checkpoint", fix=WRITE_AGAIN)
    content["classes"] = {key: tuples(value) for key, value in content["classes"].items()}
    return content


def tuples(value: Any) -> Any:
    """A value of a JSON file with its lists turned back into tuples."""
    return tuple(tuples(entry) for entry in value) if isinstance(value, list) else value
