"""Distillation: the network learns from the logits of a trained one beside the labels (Hinton et al. 2015)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import Trained, load_trained
from fastscnn.models.blocks import downscale, resize
from fastscnn.models.external import short_name
from fastscnn.models.folding import folded
from fastscnn.runs.safetensors import WEIGHTS
from fastscnn.training.global_batch import Part
from fastscnn.training.transfer import run_of
from fastscnn.utils.digests import digest_of
from fastscnn.utils.errors import RequestError, renamed
from fastscnn.utils.values import check_number

CHECKPOINT = "distill.checkpoint"


@dataclass(frozen=True)
class Source:
    """The trained network of a checkpoint, and the file that it comes from.

    Attributes:
        file: The file.
        sha256: Its digest.
        trained: The network, its classes and its config.
    """

    file: Path
    sha256: str
    trained: Trained


class Teacher:
    """A trained network whose logits the network in training is drawn to; no part of its module or its checkpoints.

    Args:
        source: The network.
        weight: Of the divergence, beside the loss.
        temperature: T, by which the logits of both are divided.
        channels_last: Whether its weights and images have the memory format channels_last.
    """

    def __init__(
        self, source: Source, weight: float = 1.0, temperature: float = 1.0, *, channels_last: bool = True
    ) -> None:
        self.source, self.weight, self.temperature = source, weight, temperature
        self._channels_last = channels_last
        self._network: Any = folded(source.trained.network)
        if channels_last:
            self._network.to(memory_format=torch.channels_last)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """A copy of a module has the same teacher, which never changes."""
        return self

    def to(self, device: torch.device) -> None:
        """Move the network to the device that trains."""
        self._network.to(device)

    def loss(self, logits: Tensor, images: Tensor) -> Tensor:
        """What is added to the loss: T^2 times the mean divergence KL(teacher || network) over all places, weighted.

        Args:
            logits: Those of the network in training, [B, C, h, w]; the teacher's are resized to theirs.
            images: What both see, uint8 [B, 3, H, W]; each at its own resolution.
        """
        temperature = self.temperature
        with torch.no_grad():
            seen = downscale(normalize(images, channels_last=self._channels_last), self.source.trained.scale)
            seen = seen if self._channels_last else seen.contiguous()
            given = resize(self._network.coarse_logits(seen).float(), (logits.shape[-2], logits.shape[-1]))
            wanted = (given / temperature).log_softmax(1)
        own = (logits.float() / temperature).log_softmax(1)
        divergence = F.kl_div(own, wanted, reduction="none", log_target=True).sum(1).mean()
        return self.weight * temperature**2 * divergence

    def added(self, part: Part, logits: Tensor, images: Tensor) -> Part:
        """A part of a global batch with this term as well, which counts by the part's size."""
        loss = self.loss(logits, images)
        size = torch.full_like(part.weights[:1], part.size)
        return part._replace(means=torch.cat([part.means, loss[None]]), weights=torch.cat([part.weights, size]))

    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "checkpoint": str(self.source.file.resolve()),
            "sha256": self.source.sha256,
            "run": run_of(self.source.file),
            "model": short_name(self.source.trained.config["model"]),
            "weight": self.weight,
            "temperature": self.temperature,
        }

    def __str__(self) -> str:
        return (
            f"{CHECKPOINT}: learns from {short_name(self.source.trained.config['model'])} of {self.source.file}, "
            f"weight {self.weight:g}, temperature {self.temperature:g}"
        )


def check_distill(distill: Mapping[str, Any], *, classification: bool) -> None:
    """Check a `distill` config.

    Raises:
        RequestError: Names the setting and the fix.
    """
    check_number("distill.weight", distill.get("weight", 1.0), above=0)
    check_number("distill.temperature", distill.get("temperature", 1.0), above=0)
    if classification and distill.get("checkpoint"):
        problem = f"{CHECKPOINT}={distill['checkpoint']} is for segmentation."
        raise RequestError(problem, key=CHECKPOINT, fix=f"Leave {CHECKPOINT} out.")


def find_source(distill: Mapping[str, Any], trust: str | Sequence[str] | None = None) -> Source | None:
    """Read the checkpoint that a `distill` config names; nothing in it is executed.

    Args:
        distill: The config; where it has a `sha256`, as that of every run that was started has, the file must have it.
        trust: As `load_trained` takes it.

    Returns:
        None where none is named.

    Raises:
        RequestError: There is no such file, it is another one, or it holds no segmentation network.
    """
    given = distill.get("checkpoint")
    if not given:
        return None
    try:
        path = on_disk(str(given))
        trained = load_trained(str(given), trust=trust)
    except RequestError as error:
        raise renamed(error, CHECKPOINT) from None
    file = path / WEIGHTS if path.is_dir() else path
    digest, wanted = digest_of(file), distill.get("sha256")
    if wanted not in (None, digest):
        raise RequestError(
            f"{CHECKPOINT}={given} has the digest {digest[:12]}…, but the run learns from {str(wanted)[:12]}….",
            key=CHECKPOINT,
            fix=f"Set {CHECKPOINT} to the file that the run began with, or start a new run.",
        )
    return Source(file, digest, trained)
