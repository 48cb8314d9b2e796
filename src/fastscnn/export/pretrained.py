"""Trained networks as `model.safetensors` and a plain `config.json`, written to a folder or to the Hugging Face Hub."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

from fastscnn.data.transforms.normalize import NORMALIZATION
from fastscnn.inference.hub import FILES, REPOSITORY
from fastscnn.inference.loader import Trained
from fastscnn.inference.shipped import NETWORKS
from fastscnn.runs.process import version_of
from fastscnn.runs.safetensors import CHECKSUM, CONFIG, WEIGHTS, first_line
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_bytes, write_json

SAVED = ("model", "resolution", "data", "calibration")
"""The parts of the training config that are saved."""


def save_pretrained(folder: str | Path, trained: Trained, *, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a network without the heads that only training needs.

    `model.safetensors` has its tensors; `config.json` the settings of the network, the class table, the resolution, the
    normalisation, the versions, and the metrics. Nothing in them is ever executed.

    Args:
        folder: The folder, which is made if it is missing; the two files are replaced.
        trained: The network.
        metrics: What it reached, such as `val/miou`.

    Returns:
        The folder.

    Raises:
        OSError: It cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: trained.config[key] for key in SAVED if key in trained.config}
    if "data" in config:
        config["data"] = {**config["data"], "root": None}
    config["init"] = _start(trained.config.get("init") or {})
    tensors = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    data = save(tensors, {"format": "pt"})
    content = {
        "library": "fastscnn",
        "config": config,
        "classes": asdict(trained.classes),
        "normalization": NORMALIZATION,
        "metrics": dict(metrics or {}),
        CHECKSUM: crc32(data),
        "versions": {name: version_of(name) for name in ("fastscnn", "torch", "safetensors")},
    }
    write_bytes(folder / WEIGHTS, data)
    write_json(folder / CONFIG, content)
    return folder


def _start(init: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the training began with, without its place on this machine; None for random weights."""
    start = init.get("checkpoint")
    if not start:
        return None
    known = start in NETWORKS or (REPOSITORY.fullmatch(str(start)) and Path(start).suffix not in FILES)
    return {"checkpoint": start if known else Path(start).name, "sha256": init.get("sha256")}


def push_to_hub(
    repository: str, trained: Trained, *, metrics: Mapping[str, float] | None = None, private: bool = False
) -> str:
    """Write a network to the Hub, into a repository which is made if it is missing; returns the address of the commit.

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
                f"{repository} cannot be written to the Hub: {first_line(error)}",
                fix="Look at the connection and at `hf auth login`.",
            ) from None
