"""A trained network as its file holds it: the start of everything in this room."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.transforms.normalize import check_normalization
from fastscnn.models.base import SegmentationNetwork
from fastscnn.models.build import build_network
from fastscnn.runs.checkpoint import META, chosen_state, read_checkpoint
from fastscnn.runs.safetensors import PREFIX
from fastscnn.utils.errors import RequestError


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


def load_trained(path: str | Path, *, skip: str | None = None, weights: str | None = None) -> Trained:
    """Rebuild the network of a checkpoint that `train.py` wrote, or of what `save_pretrained` wrote.

    Args:
        path: A checkpoint; a folder with `model.safetensors` and `config.json`, or the first of these files.
        skip: `keep` or `zero` instead of what the network was trained with (section 3.2).
        weights: `average` or `latest`, see `chosen_state`.

    Raises:
        RequestError: The file is no checkpoint, holds no segmentation network, or its tensors do not fit its config.
    """
    content = read_checkpoint(path)
    return rebuild(content[META], chosen_state(content, path, weights), path, skip=skip)


def rebuild(
    meta: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | Path, *, skip: str | None = None
) -> Trained:
    """Build the network that a file describes and give it its tensors.

    Args:
        meta: `config`, `classes` and, where it is stated, `normalization`.
        tensors: By a checkpoint's names.
        path: Where they come from, for the error's sentence.
        skip: `keep` or `zero` instead of what the network was trained with.

    Raises:
        RequestError: It is no segmentation network, or the tensors do not fit the config.
    """
    config = dict(meta["config"])
    if "normalization" in meta:
        check_normalization(meta["normalization"], path)
    if config.get("data", {}).get("dataset") == "imagenet":
        raise RequestError(
            f"checkpoint={path} holds an image classifier, no segmentation network: name a checkpoint of a run that "
            "segments."
        )
    if skip is not None:
        config["model"] = config["model"] | {"skip": skip}
    classes = ClassTable(**meta["classes"])
    network = build_network(config["model"], classes.num_classes)
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        problem = f"checkpoint={path} does not fit its own config ({first.rstrip('.')})."
        raise RequestError(problem, key="checkpoint", fix="Choose another file.") from None
    return Trained(network.eval().requires_grad_(False), classes, config)
