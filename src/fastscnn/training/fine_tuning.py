"""Fine-tuning: a trained checkpoint as the start of another training, with classes of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import open_checkpoint
from fastscnn.models.build import build_network
from fastscnn.runs.safetensors import CONFIG, PREFIX, WEIGHTS
from fastscnn.training.freezing import FREEZE
from fastscnn.training.segmentation import Segmentation, auxiliary_heads
from fastscnn.training.transfer import listed, read_tensors, run_of, shape_of
from fastscnn.utils.digests import digest_of
from fastscnn.utils.errors import RequestError, renamed

CHECKPOINT = "init.checkpoint"


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from.

    Attributes:
        file: The file.
        sha256: Its digest.
        run: Id of the run in whose folder it lies; None where it lies elsewhere.
        names: Names of the classes that it predicts; None where the file does not say.
        tensors: Name to tensor, with the names of a `Segmentation` module.
        resolution: Name of the resolution at which its network sees images; None where the file does not say.
    """

    file: Path
    sha256: str
    run: str | None
    names: Sequence[str] | None
    tensors: Mapping[str, Tensor]
    resolution: str | None = None


@dataclass
class Part:
    """How many tensors of a part of the network come from where."""

    taken: int = 0
    by_class: int = 0
    fresh: int = 0


@dataclass(frozen=True)
class Taken:
    """What was taken from a file.

    Attributes:
        start: The file.
        parts: Part of the network to its counts.
        classes: Class to whether its row of the class layer was taken; empty where the file does not name classes.
        unlike: Tensors whose shape differs, with both shapes.
        ignored: Tensors of the file that the network does not have.
        frozen: Parts that stay as they are.
        resolution: Name of the resolution at which the network sees images here.
    """

    start: Start
    parts: Mapping[str, Part]
    classes: Mapping[str, bool]
    unlike: Sequence[str]
    ignored: Sequence[str]
    frozen: Sequence[str]
    resolution: str

    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "checkpoint": str(self.start.file.resolve()),
            "sha256": self.start.sha256,
            "run": self.start.run,
            "parts": {name: vars(part) for name, part in self.parts.items()},
            "classes": {"taken": self._classes(True), "fresh": self._classes(False)},
            "unlike": list(self.unlike),
            "ignored": list(self.ignored),
            "frozen": list(self.frozen),
        }

    def table(self) -> Table:
        """A row for each part: how many of its tensors were taken, taken by class, or are made anew."""
        shown = Table()
        shown.add_column("part")
        for name in ("taken", "by class", "made anew"):
            shown.add_column(name, justify="right")
        if self.frozen:
            shown.add_column("")
        for name, part in self.parts.items():
            frozen = any(name == one.partition(".")[0] for one in self.frozen)
            counts = (str(count) if count else "" for count in (part.taken, part.by_class, part.fresh))
            shown.add_row(name, *counts, *(["frozen"] if frozen else []))
        return shown

    def _classes(self, taken: bool) -> list[str]:
        return [name for name, found in self.classes.items() if found == taken]

    def __str__(self) -> str:
        """What the table does not say."""
        lines = [f"{CHECKPOINT}: the weights are those of {self.start.file}"]
        if self.classes:
            lines.append(f"classes taken by their names: {listed(self._classes(True), 8)}")
            lines.append(f"classes made anew: {listed(self._classes(False), 8)}")
        if self.unlike:
            lines.append(f"of another shape: {listed(self.unlike)}")
        if self.ignored:
            lines.append(f"not used: {listed(self.ignored)}")
        if self.start.resolution not in (None, self.resolution):
            lines.append(
                f"it was trained at resolution={self.start.resolution} and this run is at {self.resolution}, "
                f"so its weights know things at another size: resolution={self.start.resolution} keeps it"
            )
        return "\n".join(lines)


def check_init(init: Mapping[str, Any], pretrain: str, *, classification: bool) -> None:
    """Check an `init` config beside what was chosen with it.

    Raises:
        RequestError: Names the setting and the fix.
    """
    checkpoint, freeze = init.get("checkpoint"), init.get("freeze") or []
    key, value = (CHECKPOINT, checkpoint) if checkpoint else (FREEZE, freeze)
    if not checkpoint and not freeze:
        return
    if classification:
        raise RequestError(f"{key}={value} is for segmentation.", key=key, fix=f"Leave {key} out.")
    if pretrain != "none":
        raise RequestError(
            f"{key}={value} and pretrain={pretrain} both say what the weights start from.",
            key=key,
            fix=f"Leave one of them out, or set {key}=null.",
        )
    if not isinstance(freeze, list) or not all(isinstance(part, str) for part in freeze):
        raise RequestError(
            f"{FREEZE}={freeze} is no list of parts.", key=FREEZE, fix=f"Set {FREEZE}=[learning_to_downsample]."
        )
    if not checkpoint:
        raise RequestError(
            f"{FREEZE}={freeze} would keep random weights as they are.",
            key=FREEZE,
            fix=f"Set {CHECKPOINT}=FILE as well, or leave {FREEZE} out.",
        )


def find_start(init: Mapping[str, Any], trust: str | Sequence[str] | None = None) -> Start | None:
    """Read the checkpoint that an `init` config names; nothing in it is executed.

    Args:
        init: The config.
        trust: As `open_checkpoint` takes it.

    Returns:
        None where none is named.

    Raises:
        RequestError: There is no such file, or it is no checkpoint of ours and no safetensors file.
    """
    if not init.get("checkpoint"):
        return None
    source = str(init["checkpoint"])
    try:
        path = on_disk(source)
        file = path / WEIGHTS if path.is_dir() and (path / WEIGHTS).is_file() else path
        names: Sequence[str] | None = None
        resolution: str | None = None
        if file.suffix == ".safetensors" and not (file.parent / CONFIG).is_file():
            tensors: Mapping[str, Tensor] = {PREFIX + name: one for name, one in read_tensors(file, CHECKPOINT).items()}
        else:
            checkpoint = open_checkpoint(source, trust=trust)
            names, tensors = checkpoint.classes["names"], checkpoint.tensors
            resolution = _resolution(checkpoint.config)
    except RequestError as error:
        raise renamed(error, CHECKPOINT) from None
    return Start(file, digest_of(file), run_of(file), names, tensors, resolution)


def _resolution(config: Mapping[str, Any]) -> str:
    """Its name in a config; runs of before there were several have none."""
    return str((config.get("resolution") or {}).get("name", "full"))


def take(module: Segmentation, start: Start, freeze: Sequence[str] = ()) -> Taken:
    """Copy every tensor of a file that fits, and of the class layers the rows of the classes with the same name.

    Args:
        module: The module; its other tensors stay at their random start.
        start: The file.
        freeze: Parts that are going to be frozen, for the table.

    Raises:
        RequestError: Not one tensor fits.
    """
    own = module.state_dict()
    layers = class_layers(module)
    names = module.classes.names
    theirs = {name: place for place, name in enumerate(start.names or ())}
    rows = [(place, theirs[name]) for place, name in enumerate(names) if name in theirs]
    parts: dict[str, Part] = {}
    unlike = []
    for name, tensor in own.items():
        part = parts.setdefault(_part_of(name), Part())
        given = start.tensors.get(name)
        if given is not None and name in layers and start.names is not None:
            dimension = layers[name]
            if _fits_by_class(tensor, given, dimension, len(start.names)):
                with torch.no_grad():
                    for place, source in rows:
                        tensor.select(dimension, place).copy_(given.select(dimension, source))
                part.by_class, part.fresh = part.by_class + bool(rows), part.fresh + (not rows)
                continue
        if given is not None and given.shape == tensor.shape:
            with torch.no_grad():
                tensor.copy_(given)
            part.taken += 1
            continue
        part.fresh += 1
        if given is not None:
            unlike.append(f"{name} ({shape_of(given)} in the file, {shape_of(tensor)} here)")
    if not any(part.taken or part.by_class for part in parts.values()):
        raise RequestError(
            f"{CHECKPOINT}={start.file} has no tensor that fits this network: it holds {listed(list(start.tensors))}; "
            f"needed are {listed(list(own))}.",
            key=CHECKPOINT,
            fix="Name a checkpoint of the same model, or set init.checkpoint=null.",
        )
    known = {name: any(place == own_place for own_place, _ in rows) for place, name in enumerate(names)}
    ignored = [name for name in start.tensors if name not in own]
    classes = known if start.names is not None else {}
    return Taken(start, parts, classes, unlike, ignored, tuple(freeze), _resolution(module.config))


def class_layers(module: Segmentation) -> dict[str, int]:
    """Name to dimension, for the tensors that have a row for each class: found by the shapes with one class more."""
    with torch.random.fork_rng(devices=[]):
        count = module.classes.num_classes + 1
        other = nn.Module()
        other.network = build_network(module.config["model"], count, pretrained=False)
        other.auxiliary = auxiliary_heads(other.network, module.config["model"], count)
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
    found = {}
    for name, tensor in module.state_dict().items():
        unequal = [place for place, side in enumerate(tensor.shape) if shapes[name][place] != side]
        if len(unequal) == 1:
            found[name] = unequal[0]
    return found


def _fits_by_class(own: Tensor, given: Tensor, dimension: int, classes: int) -> bool:
    """Whether a class layer of the file differs from the network's own in the number of classes alone."""
    if given.ndim != own.ndim or given.shape[dimension] != classes:
        return False
    return all(a == b for place, (a, b) in enumerate(zip(own.shape, given.shape, strict=True)) if place != dimension)


def _part_of(name: str) -> str:
    """`classifier` of `network.classifier.3.weight`."""
    return name.removeprefix(PREFIX).partition(".")[0]
