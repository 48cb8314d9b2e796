"""A trained network as its file holds it: the start of everything in this room."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastscnn.data.classes import ClassTable
from fastscnn.errors import RequestError
from fastscnn.network.build import build_network
from fastscnn.network.contract import SegmentationNetwork
from fastscnn.runs.checkpoint import META, read_checkpoint

PREFIX = "network."
"""What the names of the network's tensors begin with in a checkpoint, beside the auxiliary heads' tensors."""


@dataclass(frozen=True)
class Trained:
    """A trained segmentation network and what it was trained for.

    Attributes:
        network: In eval mode, without gradients; maps normalised images [B, 3, H, W] to logits, and with
            `coarse_logits` to those before the last upsampling.
        classes: What it predicts.
        config: The plain config that it was trained with: `model`, `data`, `resolution` and the rest.
    """

    network: SegmentationNetwork
    classes: ClassTable
    config: Mapping[str, Any]

    @property
    def scale(self) -> float:
        """Height and width of what the network sees, as a share of the image's (section 3.3)."""
        return float(self.config.get("resolution", {"scale": 1.0})["scale"])


def load_trained(path: str | Path, *, skip: str | None = None) -> Trained:
    """Rebuild the network of a checkpoint that `train.py` wrote, or of what `save_pretrained` wrote.

    Args:
        path: A checkpoint; a folder with `model.safetensors` and `config.json`, or the first of these files.
        skip: `keep` or `zero` instead of what the network was trained with (section 3.2).

    Raises:
        RequestError: The file is no checkpoint, holds no segmentation network, or its tensors do not fit its config.
    """
    if Path(path, "model.safetensors").is_file() or Path(path).suffix == ".safetensors":
        from fastscnn.inference.pretrained import from_pretrained

        return from_pretrained(path, skip=skip)
    content = read_checkpoint(path)
    config = content[META]["config"]
    if config.get("data", {}).get("dataset") == "imagenet":
        raise RequestError(
            f"checkpoint={path} holds an image classifier, no segmentation network: name a checkpoint of a run that "
            "segments."
        )
    tensors = {
        name.removeprefix(PREFIX): tensor for name, tensor in content["state_dict"].items() if name.startswith(PREFIX)
    }
    return rebuild(config, ClassTable(**content[META]["classes"]), tensors, path, skip=skip)


def rebuild(
    config: Mapping[str, Any],
    classes: ClassTable,
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    skip: str | None = None,
) -> Trained:
    """Build the network of a config and give it its tensors.

    Args:
        config: As `Trained` has it.
        classes: As `Trained` has them.
        tensors: The network's state.
        path: Where they come from, for the error's sentence.
        skip: `keep` or `zero` instead of what the network was trained with.

    Raises:
        RequestError: The tensors do not fit the config.
    """
    config = dict(config)
    if skip is not None:
        config["model"] = config["model"] | {"skip": skip}
    network = build_network(config["model"], classes.num_classes)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise RequestError(f"checkpoint={path} does not fit its own config: {first}") from None
    return Trained(network.eval().requires_grad_(False), classes, config)
