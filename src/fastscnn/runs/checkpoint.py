"""Reading checkpoints, which hold only tensors and plain containers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastscnn.runs.safetensors import is_saved, read_saved, saved_files
from fastscnn.runs.torch_file import DamagedPart, read_torch_file
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_file

META = "fastscnn"
"""Key of a checkpoint under which this project stores `config`, `classes` and more, as plain containers."""

LATEST_STATE = "current_model_state"
"""Key of a checkpoint under which the weights of the last step lie, where `state_dict` is their moving average."""
WEIGHTS = ("average", "latest")
"""What `weights` may ask a checkpoint for."""

SAFETENSORS_DEFAULTS = {"loss": {"auxiliary_weight": 0.0}, "trainer": {"precision": "32-true"}}
"""Parts of a training config that a safetensors file does not hold, with the values that evaluation uses."""


def read_checkpoint(path: str | Path, *, map_location: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint that training wrote, or a network that `save_pretrained` wrote.

    Nothing in the file is executed: it is read with `weights_only=True`, whatever it holds.

    Args:
        path: A checkpoint; or a folder with `model.safetensors` and `config.json`, or the first of these files.
        map_location: Where the tensors go.

    Raises:
        RequestError: The file does not exist, is not a checkpoint, or was not written by this project; names the file.
    """
    path = Path(path).expanduser()
    if is_saved(path):
        content, tensors = read_saved(*saved_files(path))
        return {META: content | {"config": SAFETENSORS_DEFAULTS | content["config"]}, "state_dict": tensors}
    inside = ", such as checkpoints/best.ckpt in it" if path.is_dir() else ""
    check_file(path, "checkpoint", f"Set checkpoint=FILE{inside}.")
    try:
        content = read_torch_file(path, map_location)
    except DamagedPart as error:
        problem = f"checkpoint={path} {error}"
        raise RequestError(problem, key="checkpoint", fix="Copy it again, or name another checkpoint.") from None
    except Exception:  # the unpickler can raise anything
        raise RequestError(
            f"checkpoint={path} is not a checkpoint that can be read safely (tensors and plain containers).",
            key="checkpoint",
            fix="Name a best.ckpt or last.ckpt that train.py wrote.",
        ) from None
    meta = content.get(META) if isinstance(content, dict) else None
    if not isinstance(meta, dict) or not {"config", "classes"} <= meta.keys() or "state_dict" not in content:
        raise RequestError(
            f"checkpoint={path} was not written by train.py (it has no '{META}' and 'state_dict').",
            key="checkpoint",
            fix="Name a best.ckpt or last.ckpt.",
        )
    checkpoint: dict[str, Any] = content
    return checkpoint


def chosen_state(content: Mapping[str, Any], path: str | Path, weights: str | None = None) -> Mapping[str, Any]:
    """The tensors of a checkpoint that `read_checkpoint` read.

    Args:
        content: The checkpoint.
        path: Where it lies, as messages show it.
        weights: `average` or `latest`, of the last step; None is the average where there is one.

    Raises:
        RequestError: There is no average in it.
    """
    if weights not in (None, *WEIGHTS):
        raise RequestError(
            f"weights={weights} is not one of {', '.join(WEIGHTS)}.", key="weights", fix="Set one of them."
        )
    averaged = LATEST_STATE in content
    if weights == "average" and not averaged:
        raise RequestError(
            f"checkpoint={path} was trained without an average of its weights (callbacks=[default,ema]).",
            key="weights",
            fix="Leave weights out.",
        )
    state: Mapping[str, Any] = content[LATEST_STATE if averaged and weights == "latest" else "state_dict"]
    return state


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file is a whole checkpoint."""
    try:
        read_checkpoint(path)
    except RequestError:
        return False
    return True


def without_best(content: dict[str, Any]) -> dict[str, Any]:
    """A training checkpoint without what it says of the best checkpoint."""
    callbacks = {key: state for key, state in content["callbacks"].items() if not key.startswith("FolderCheckpoint")}
    if record := callbacks.get("KeepRecord"):
        callbacks["KeepRecord"] = record | {"best": {}}
    return content | {"callbacks": callbacks, META: content[META] | {"best_scores": None}}
