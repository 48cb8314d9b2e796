"""The files that a training starts or learns from: found once, and named in the config by their digests.

Two runs of different weights are different runs, wherever the files lie and whatever they are called.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from fastscnn.inference.hub import on_disk
from fastscnn.runs.jobs import current_multirun
from fastscnn.runs.run_settings import STARTS
from fastscnn.runs.safetensors import WEIGHTS
from fastscnn.training.fine_tuning import check_init
from fastscnn.training.transfer import check_pretrained, newest_pretraining
from fastscnn.utils.digests import digest_of
from fastscnn.utils.errors import RequestError, renamed

FOUND = "pretrained.txt"
"""The file in a multirun's folder that names the pre-trained weights of all its jobs."""


def resolve_starts(config: DictConfig) -> None:
    """Write the digest of each file of `STARTS` beside its path: `pretrain.sha256`, `init.sha256`, `distill.sha256`.

    The newest pre-training is looked for once in a multirun: a pre-training that ends meanwhile does not change the
    weights of the jobs that are left. A file that is not there is left to whoever reads it.

    Raises:
        RequestError: There is no pre-training to start from, or it is asked for beside `init` or for another network;
            or the config names another digest than the file has, as that of a recorded run may.
    """
    init: Any = OmegaConf.to_container(config.get("init") or OmegaConf.create(), resolve=True)
    pretrain = OmegaConf.select(config, "pretrain.name") or "none"
    check_init(init, pretrain, classification=False)  # before a pre-training is looked for
    check_pretrained(OmegaConf.select(config, "model.name"), pretrain)
    for name in STARTS:
        node = OmegaConf.select(config, name)
        if not isinstance(node, DictConfig):
            continue
        file = _file(name, node, Path(config.paths.output_dir))
        if file is None or not file.is_file():
            continue
        digest, wanted = digest_of(file), node.get("sha256")
        if wanted not in (None, digest):
            raise RequestError(
                f"{name}.sha256={str(wanted)[:12]}… is not the digest of {file}, which is {digest[:12]}….",
                key=f"{name}.sha256",
                fix=f"Set {name}.checkpoint to the file that is meant, or leave {name}.sha256 out.",
            )
        with open_dict(node):
            node.sha256 = digest
            if not node.get("checkpoint"):
                node.checkpoint = str(file)


def _file(name: str, node: DictConfig, output_dir: Path) -> Path | None:
    """The file that a node names; None where it names none."""
    if node.get("name") == "none":
        return None
    given = node.get("checkpoint")
    if name == "pretrain":
        return Path(given).expanduser() if given else once(FOUND, lambda: newest_pretraining(output_dir))
    if not given:
        return None
    try:
        path = on_disk(str(given))
    except RequestError as error:
        raise renamed(error, f"{name}.checkpoint") from None
    return path / WEIGHTS if path.is_dir() else path


def once(name: str, find: Callable[[], Path]) -> Path:
    """What the first job of a multirun finds, for all its jobs in whatever process; alone, what is found now."""
    multirun = current_multirun()
    if multirun is None or not multirun.folder.is_dir():
        return find()
    file = multirun.folder / name
    with contextlib.suppress(FileNotFoundError):
        return Path(file.read_text(encoding="utf-8"))
    found = find().resolve()
    own = file.with_name(f"{name}.{secrets.token_hex(4)}")
    own.write_text(str(found), encoding="utf-8")
    try:
        os.link(own, file)  # fails where another job was first
    except FileExistsError:
        found = Path(file.read_text(encoding="utf-8"))
    except OSError:  # a file system without links
        own.replace(file)
        return found
    own.unlink()
    return found
