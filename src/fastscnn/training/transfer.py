"""Pre-trained weights: finding the file, copying its tensors, and reporting which were copied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fastscnn.data.datamodules.imagenet import NAME
from fastscnn.models.build import FAST_SCNN
from fastscnn.models.image_classifier import SHARED
from fastscnn.runs.record import RECORD, read_record
from fastscnn.runs.torch_file import DamagedPart, read_torch_file
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_file

COMMAND = "python src/train.py experiment=imagenet_pretrain data.root=DIR"
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state", "model_state_dict")
"""Keys under which a file may hold its tensors, the first that is there; timm's order, averaged weights first."""
WRAPPERS = ("module.", "_orig_mod.", "network.", "model.")
"""Prefixes that wrappers put before the names: DistributedDataParallel, torch.compile, LightningModules."""


def check_pretrained(model: str, pretrain: str) -> None:
    """Check that a pre-training has parts of a network.

    Raises:
        RequestError: It has none.
    """
    if model != FAST_SCNN and pretrain != "none":
        raise RequestError(
            f"pretrain={pretrain} fills parts of {FAST_SCNN}, and model={model} has none of them.",
            key="pretrain",
            fix="Leave pretrain out.",
        )


@dataclass(frozen=True)
class Weights:
    """Tensors read from a file, without their wrappers' prefixes.

    Attributes:
        path: The file.
        run: Id of the run in whose folder it lies; None where it lies elsewhere.
        tensors: Name to tensor.
        sha256: The file's digest, where the config has it.
    """

    path: Path
    run: str | None
    tensors: Mapping[str, Tensor]
    sha256: str | None = None


@dataclass(frozen=True)
class Transfer:
    """What was taken from a file, by name.

    Attributes:
        weights: Where from.
        taken: Tensors of the network that the file gave.
        missing: Tensors of the shared parts that it did not give, and that stay at their random start.
        unlike: Those among them whose shape differs, with both shapes.
        ignored: Tensors of the file that were not taken.
        fresh: Other part of the network to the number of its tensors, all at their random start.
    """

    weights: Weights
    taken: list[str]
    missing: list[str]
    unlike: list[str]
    ignored: list[str]
    fresh: Mapping[str, int]

    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "checkpoint": str(self.weights.path.resolve()),
            "sha256": self.weights.sha256,
            "run": self.weights.run,
            "taken": len(self.taken),
            "missing": self.missing,
            "ignored": self.ignored,
        }

    def __str__(self) -> str:
        total = len(self.taken) + len(self.missing)
        fresh = ", ".join(f"{part} ({count} tensors)" for part, count in self.fresh.items())
        lines = [
            f"pretrain: {len(self.taken)} of {total} tensors of {' and '.join(SHARED)} taken from {self.weights.path}",
            f"  not taken from the file: {listed(self.ignored)}",
            f"  left at their random start: {listed([*self.missing, fresh])}",
        ]
        if self.unlike:
            lines.append(f"  of another shape: {listed(self.unlike)}")
        return "\n".join(lines)


def find_weights(pretrain: Mapping[str, Any], output_dir: str | Path) -> Weights | None:
    """Read the weights that a `pretrain` config asks for.

    Args:
        pretrain: `name` (`none` or `imagenet`) and `checkpoint`, a file; None takes the best checkpoint of the newest
            finished pre-training run.
        output_dir: The folder of the runs.

    Returns:
        None where nothing is asked for.

    Raises:
        RequestError: There is no such run or file, or the file is none that can be read.
    """
    if pretrain["name"] == "none":
        return None
    checkpoint = pretrain.get("checkpoint")
    path = Path(checkpoint).expanduser() if checkpoint else newest_pretraining(Path(output_dir))
    return Weights(path, run_of(path), read_tensors(path), pretrain.get("sha256"))


def newest_pretraining(output_dir: Path) -> Path:
    """Best checkpoint of the pre-training run below a folder that finished last; debug runs do not count.

    Raises:
        RequestError: There is none; says how to make one.
    """
    found: list[tuple[str, Path]] = []
    for file in output_dir.glob(f"*/*/{RECORD}"):
        try:
            record = read_record(file.parent)
            choices, best = record["choices"], record["checkpoints"]["best"]
            chosen = choices.get("data") == NAME and "debug" not in choices and record["status"] == "finished"
            if chosen and best and (file.parent / best).is_file():
                found.append((record["finished"], file.parent / best))
        except (OSError, ValueError, KeyError, TypeError):  # a record of something else, or one that is half copied
            continue
    if not found:
        raise RequestError(
            f"pretrain=imagenet: there is no finished pre-training run in {output_dir}/.",
            key="pretrain",
            fix=f"Run `{COMMAND}` first, or set pretrain.checkpoint=FILE.",
        )
    return max(found)[1]


def read_tensors(path: Path, key: str = "pretrain.checkpoint") -> dict[str, Tensor]:
    """Read the tensors of a file: ours, one of timm or torch, or safetensors; nothing in it is executed.

    A torch file holds the tensors bare or under one of `CONTAINERS`; prefixes of `WRAPPERS` are taken off the names.

    Raises:
        RequestError: There is no such file, it cannot be read safely, or it holds no tensors.
    """
    inside = ", such as checkpoints/best.ckpt in it" if path.is_dir() else ""
    check_file(path, key, f"Set {key}=FILE{inside}.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = read_torch_file(path)
    except DamagedPart as error:
        problem = f"{key}={path} {error}"
        raise RequestError(problem, key=key, fix="Copy it again, or name another file.") from None
    except SafetensorError:
        problem = f"{key}={path} is damaged or is not a safetensors file."
        raise RequestError(problem, key=key, fix="Copy it again, or name another file.") from None
    except Exception:  # the readers can raise anything
        raise RequestError(
            f"{key}={path} cannot be read safely (tensors and plain containers only).",
            key=key,
            fix="Save only its tensors, torch.save(network.state_dict(), FILE), and name that file.",
        ) from None
    tensors = {_bare(str(name)): value for name, value in _contained(content).items() if isinstance(value, Tensor)}
    if not tensors:
        raise RequestError(f"{key}={path} holds no tensors by name.", key=key, fix="Name another file.")
    return tensors


def load_pretrained(network: nn.Module, weights: Weights) -> Transfer:
    """Copy every tensor of learning to downsample and the global feature extractor that the file has in that shape.

    BatchNorm's statistics are among them. All other parts stay as they are, whatever the file holds, as in the paper
    (section 3.4), where the pre-trained network had no feature fusion and another last layer.

    Raises:
        RequestError: Not one tensor fits; names the first few of both sides.
    """
    own = network.state_dict()
    wanted = [name for name in own if name.startswith(SHARED)]
    given = weights.tensors
    taken = [name for name in wanted if name in given and given[name].shape == own[name].shape]
    unlike = [
        f"{name} ({shape_of(given[name])} in the file, {shape_of(own[name])} here)"
        for name in wanted
        if name in given and name not in taken
    ]
    if not taken:
        raise RequestError(
            f"pretrain.checkpoint={weights.path} has no tensor of {' or '.join(SHARED)} that fits: it holds "
            f"{listed(unlike or list(given))}; needed are {listed(wanted)}.",
            key="pretrain.checkpoint",
            fix="Name a file that experiment=imagenet_pretrain made, or rename its tensors.",
        )
    with torch.no_grad():
        for name in taken:
            own[name].copy_(given[name])
    fresh: dict[str, int] = {}
    for name in own:
        if name not in wanted:
            part = name.partition(".")[0]
            fresh[part] = fresh.get(part, 0) + 1
    return Transfer(
        weights,
        taken=taken,
        missing=[name for name in wanted if name not in taken],
        unlike=unlike,
        ignored=[name for name in given if name not in taken],
        fresh=fresh,
    )


def _contained(content: Any) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), content)
    return inner if isinstance(inner, Mapping) else {}


def _bare(name: str) -> str:
    while wrapper := next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper)), None):
        name = name.removeprefix(wrapper)
    return name


def run_of(path: Path) -> str | None:
    """The id of the run in whose folder a checkpoint lies; None where it lies elsewhere."""
    try:
        return str(read_record(path.resolve().parent.parent)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def shape_of(tensor: Tensor) -> str:
    """The sides of a tensor, as messages show them."""
    return "x".join(str(side) for side in tensor.shape) or "scalar"


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first few of some names, and how many more there are."""
    names = [name for name in names if name]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + rest) or "none"
