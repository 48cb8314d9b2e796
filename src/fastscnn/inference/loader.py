"""The loader of trained networks: from a checkpoint, a folder that export.py wrote, or a repository of the Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.transforms.normalize import check_normalization
from fastscnn.inference.contents import check_config, check_tensors, class_table
from fastscnn.inference.hub import on_disk
from fastscnn.inference.padding import TRAINED_AT, padding_multiple
from fastscnn.models.base import SegmentationNetwork
from fastscnn.models.build import build_network
from fastscnn.runs.checkpoint import LATEST_STATE, META, chosen_state, read_checkpoint
from fastscnn.runs.safetensors import PREFIX
from fastscnn.runs.trust import check_trusted, trusted_packages
from fastscnn.utils.errors import RequestError


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        source: The checkpoint, as the user named it.
        config: The plain config of the training, with the changes that were asked for.
        classes: The plain fields of the table of the classes that the network predicts.
        tensors: The tensors of the network, and those of the auxiliary heads if the file has them.
        weights: `average` or `latest`, if the checkpoint has two sets of weights; None if it has one.
    """

    source: str | Path
    config: Mapping[str, Any]
    classes: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    weights: str | None

    @property
    def is_classifier(self) -> bool:
        """Whether the network is an image classifier."""
        return bool(self.config.get("data", {}).get("dataset") == "imagenet")

    def class_table(self) -> ClassTable:
        """The classes of a segmentation network.

        Raises:
            RequestError: The network is an image classifier.
        """
        if self.is_classifier:
            raise RequestError(
                f"checkpoint={self.source} holds an image classifier, no segmentation network.",
                key="checkpoint",
                fix="Name a checkpoint of a run that segments, or train one from this with train.py pretrain=imagenet "
                f"pretrain.checkpoint={self.source}.",
            )
        return class_table(self.classes, self.source)


@dataclass(frozen=True)
class Trained:
    """A trained segmentation network with its classes and config.

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
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities (Guo et al. 2017); labels do not change."""
        return float(self.config.get("calibration", {}).get("temperature", 1.0))

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Median height and width of the frames that it was trained on; None where that is not known."""
        found = self.config.get("data", {}).get("frame_size")
        return None if found is None else (found[0], found[1])

    @property
    def multiple(self) -> int:
        """What height and width of images are padded to multiples of, before the network sees them."""
        return padding_multiple(self.config)

    @property
    def scale(self) -> float:
        """Height and width of what the network sees, as a share of the image's (section 3.3)."""
        return float(self.config.get("resolution", {"scale": 1.0})["scale"])


def open_checkpoint(
    source: str | Path,
    *,
    skip: str | None = None,
    resolution: Mapping[str, Any] | None = None,
    weights: str | None = None,
    revision: str | None = None,
    trust: str | Sequence[str] | None = None,
) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Args:
        source: A checkpoint that `train.py` wrote; a folder with `model.safetensors` and `config.json`, or the first of
            these files; or a repository on the Hub, `OWNER/NAME`.
        skip: `keep` or `zero` instead of what the network was trained with (section 3.2).
        resolution: `name` and `scale` instead of what it was trained at (section 3.3).
        weights: `average` or `latest`, see `chosen_state`.
        revision: Branch, tag or commit of the repository.
        trust: A package, or several, of which the checkpoint may name a network (`model=external`); those of
            torchvision are known.

    Raises:
        RequestError: There is no such file or repository, it is no checkpoint of ours, or it names a network of a
            package that is not trusted.
    """
    content = read_checkpoint(on_disk(source, revision))
    meta = content[META]
    packages = trusted_packages(trust)
    if isinstance(meta["config"], Mapping):
        check_trusted({"model": meta["config"].get("model")}, source=f"checkpoint={source}", trust=packages)
    check_config(meta["config"], source)
    if "normalization" in meta:
        check_normalization(meta["normalization"], source)
    config = dict(meta["config"])
    if skip is not None:
        config["model"] = config["model"] | {"skip": skip}
    if resolution is not None:
        own = config.get("resolution", {})
        config["resolution"] = {**resolution, TRAINED_AT: own.get(TRAINED_AT, own.get("scale", 1.0))}
    tensors = chosen_state(content, source, weights)
    check_tensors(tensors, source)
    return Checkpoint(
        source, config, meta["classes"], tensors, (weights or "average") if LATEST_STATE in content else None
    )


def load_trained(
    source: str | Path,
    *,
    skip: str | None = None,
    weights: str | None = None,
    revision: str | None = None,
    trust: str | Sequence[str] | None = None,
) -> Trained:
    """Rebuild the network of a checkpoint; arguments as `open_checkpoint` takes them.

    Raises:
        RequestError: As `open_checkpoint`; or it holds no segmentation network, or its tensors do not fit its config.
    """
    return rebuild(open_checkpoint(source, skip=skip, weights=weights, revision=revision, trust=trust))


def rebuild(checkpoint: Checkpoint) -> Trained:
    """The segmentation network of a checkpoint that was read.

    Raises:
        RequestError: It holds none, or its tensors do not fit its config.
    """
    classes = checkpoint.class_table()
    network = build_network(checkpoint.config["model"], classes.num_classes, pretrained=False)
    named = checkpoint.tensors.items()
    try:
        network.load_state_dict({name.removeprefix(PREFIX): value for name, value in named if name.startswith(PREFIX)})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        problem = f"checkpoint={checkpoint.source} does not fit its own config ({first.rstrip('.')})."
        raise RequestError(problem, key="checkpoint", fix="Choose another file.") from None
    return Trained(network.eval().requires_grad_(False), classes, checkpoint.config)
