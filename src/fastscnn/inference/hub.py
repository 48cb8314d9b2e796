"""The path of a trained network that is named: a path, a shipped network, or a repository on the Hugging Face Hub."""

import os
import re
from pathlib import Path

from fastscnn.inference.shipped import NETWORKS, shipped_folder
from fastscnn.runs.safetensors import CONFIG, WEIGHTS, first_line
from fastscnn.utils.errors import RequestError

REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
WORD = re.compile(r"[\w-]+")
"""What may be the name of a network that comes with the package."""
FILES = (".ckpt", ".pt", ".pth", ".safetensors", ".onnx", ".xml")
"""Suffixes of files; no repository has such a name."""


def on_disk(source: str | Path, revision: str | None = None) -> Path:
    """The file or the folder of a checkpoint; for a repository on the Hub, that of the downloaded weights.

    A path on disk comes first, then a network that comes with the package. A name whose folder exists is not looked for
    on the Hub.

    Args:
        source: A path, a name of `NETWORKS`, or `OWNER/NAME`.
        revision: Branch, tag or commit of the repository.

    Raises:
        RequestError: There is no such repository, or it cannot be reached; or a word is no path and no such name.
    """
    path = Path(source).expanduser()
    if isinstance(source, str) and source in NETWORKS and not path.exists():
        return shipped_folder(source)
    if isinstance(source, str) and WORD.fullmatch(source) and not os.path.lexists(path):
        raise _refused(
            f"{source}: there is no such file, and no network of this name comes with fastscnn.",
            f"Set checkpoint=FILE, or one of {', '.join(NETWORKS)}.",
        )
    named = isinstance(source, str) and REPOSITORY.fullmatch(source) and path.suffix not in FILES
    if not named or path.exists() or path.parent.exists():
        return path
    return _download(str(source), revision)


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    at = f"{repository} at {revision}" if revision else repository
    try:
        weights, _ = (Path(hf_hub_download(repository, file, revision=revision)) for file in (WEIGHTS, CONFIG))
    except RepositoryNotFoundError:
        raise _refused(
            f"{repository} is no folder here, and there is no such repository on the Hub.",
            "Look at the name; a private repository needs `hf auth login`.",
        ) from None
    except LocalEntryNotFoundError:
        raise _refused(
            f"{repository} is no folder here and lies in no cache, and the Hub cannot be reached.",
            "Look at the name or at the connection.",
        ) from None
    except EntryNotFoundError:
        raise _refused(
            f"{at} on the Hub has no {WEIGHTS} with a {CONFIG}.", "Name a repository that push_to_hub wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise _refused(f"{at} cannot be loaded from the Hub: {first_line(error)}", "Look at the connection.") from None
    return weights


def _refused(problem: str, fix: str) -> RequestError:
    return RequestError(f"checkpoint={problem}", key="checkpoint", fix=fix)
