"""Trained networks as `model.safetensors` and a plain `config.json`, in a folder or on the Hugging Face Hub."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from fastscnn.data.transforms.normalize import NORMALIZATION
from fastscnn.inference.loader import Trained, rebuild
from fastscnn.runs.process import version_of
from fastscnn.runs.safetensors import CONFIG, WEIGHTS, first_line, read_saved, saved_files
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_bytes, write_json

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

    Raises:
        OSError: It cannot be written.
    """
    from safetensors.torch import save

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
        "versions": {name: version_of(name) for name in ("fastscnn", "torch", "safetensors")},
    }
    tensors = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, content)
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
    content, tensors = read_saved(weights, config)
    return rebuild(content, tensors, weights, skip=skip)


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
                f"{repository} cannot be written to the Hub: {first_line(error)} Look at the connection and at "
                "`hf auth login`."
            ) from None


def _files(name: str | Path, revision: str | None) -> tuple[Path, Path]:
    """The weights and the config, on this machine."""
    local = Path(name).expanduser()
    if local.exists():
        return saved_files(local)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return _download(str(name), revision)
    raise RequestError(
        f"{name} is neither a folder with {WEIGHTS} nor a repository on the Hub: name one of them, or OWNER/NAME."
    )


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
        raise RequestError(f"{repository}{at} cannot be loaded from the Hub: {first_line(error)}") from None
    return weights, config
