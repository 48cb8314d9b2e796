"""Any `torch.nn.Module` that gives logits, of a library or of a user's own, under the contract of the networks here."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.models.base import OnlyLogits, SegmentationNetwork, pad_to_multiple
from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object, parameters
from fastscnn.utils.values import check_whole

NAME = "external"
"""Its value of `model.name`."""
KEY = "model.network"
CLASS_COUNTS = ("num_classes", "classes", "n_classes", "num_labels")
"""Names under which classes take the number of classes; the first that a class has is filled in."""
PRETRAINED = {"weights_backbone": None, "encoder_weights": None, "pretrained": False, "pretrained_backbone": False}
"""Arguments that load weights, which a checkpoint replaces, with the values that load none."""
MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
"""What is tried for `model.multiple=auto`."""
STRIDES = range(1, 129)
SIZES = ((1, 1), (97, 203))
"""Height and width of the images that a network is tried with."""


class External(SegmentationNetwork):
    """A network without auxiliary heads around any module that gives logits.

    The module may give a tensor, a mapping (its `out`, as torchvision's have it, or else its first entry) or a
    sequence (its first entry), of logits [B, num_classes, h, w] at any stride. It is tried on two small images when
    it is wrapped: that finds the stride, and what image sizes it takes. Other images are padded with zeros at the right
    and at the bottom, and the logits are cropped.

    Args:
        body: The module; on the CPU.
        num_classes: Number of classes.
        multiple: The module takes heights and widths that are multiples of this; None finds it.

    Raises:
        RequestError: It fails on such images, or does not give logits.
    """

    def __init__(self, body: nn.Module, num_classes: int, multiple: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body = body
        self._path: tuple[Any, ...] = ()
        self.multiple, self.stride = self._tried([multiple] if multiple else MULTIPLES)

    def features(self, images: Tensor) -> OnlyLogits:
        """Run the network; see `SegmentationNetwork`."""
        if self.multiple == 1:
            return OnlyLogits(self._logits(images))
        height, width = (-(-images.shape[axis] // self.stride) for axis in (-2, -1))
        return OnlyLogits(self._logits(pad_to_multiple(images, self.multiple))[..., :height, :width])

    def _logits(self, images: Tensor) -> Tensor:
        output = self.body(images)
        # Some modules give more in training than in evaluation, and a trace has to know the path beforehand.
        logits: Tensor = _at(output, _path_to_tensor(output) if self.training else self._path)
        return logits

    def _tried(self, multiples: Any) -> tuple[int, int]:
        """The first of these multiples whose images the module takes, and its stride.

        Raises:
            RequestError: There is none.
        """
        failure = ""
        with _evaluating(self.body):
            for multiple in multiples:
                try:
                    strides = [self._possible_strides(size, multiple) for size in SIZES]
                except RequestError:
                    raise
                except Exception as error:  # a module that does not take a size may raise anything
                    failure = next(iter(str(error).strip().splitlines()), type(error).__name__)
                    continue
                if common := set.intersection(*strides):
                    return multiple, max(common, key=lambda stride: (stride.bit_count() == 1, stride))
                failure = "its logits do not cover an image from edge to edge"
        raise RequestError(
            f"{KEY} does not run on images whose sides are multiples of {', '.join(map(str, multiples))}: {failure}.",
            key=KEY,
            fix="Correct the network, or set model.multiple=NUMBER to the multiple that it takes.",
        )

    def _possible_strides(self, size: tuple[int, int], multiple: int) -> set[int]:
        """The strides that an image's logits can have; none where they do not cover the image.

        Raises:
            RequestError: The module gives no logits.
        """
        images = pad_to_multiple(torch.linspace(-1, 1, 3 * size[0] * size[1]).reshape(1, 3, *size), multiple)
        output = self.body(images)
        self._path = _path_to_tensor(output)
        logits = _at(output, self._path)
        if not isinstance(logits, Tensor) or logits.ndim != 4 or not logits.is_floating_point():
            found = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise RequestError(
                f"{KEY} gives {found}, not logits, float [B, {self.num_classes}, h, w].",
                key=KEY,
                fix="Have its forward return the scores of the classes, without argmax.",
            )
        if logits.shape[1] != self.num_classes:
            raise RequestError(
                f"{KEY} gives scores of {logits.shape[1]} classes, and the data has {self.num_classes}.",
                key=KEY,
                fix=f"Have it take an argument {' or '.join(CLASS_COUNTS[:2])}, which is filled in.",
            )
        pairs = list(zip(images.shape[-2:], logits.shape[-2:], strict=True))
        return {stride for stride in STRIDES if all(-(-side // stride) == coarse for side, coarse in pairs)}


def build_external(model: Mapping[str, Any], num_classes: int, *, pretrained: bool = True) -> SegmentationNetwork:
    """Build the network that `model.network` names; one that is a `SegmentationNetwork` itself is not wrapped.

    Args:
        model: The config: `network` (`_target_` and arguments) and `multiple`.
        num_classes: Number of classes; given to the class under the first of `CLASS_COUNTS` that it takes.
        pretrained: Whether the class may load weights of its own; not where a checkpoint's replace them.

    Raises:
        RequestError: The class cannot be built, or it does not give logits.
    """
    node, target = _checked(model)
    names, takes_any = parameters(target)
    given = next((name for name in CLASS_COUNTS if name in names), CLASS_COUNTS[0] if takes_any else None)
    settings = {} if given is None or given in node else {given: num_classes}
    replaced = {} if pretrained else {name: value for name, value in PRETRAINED.items() if name in names}
    if not pretrained and str(target.__module__).startswith("torchvision."):
        replaced["weights"] = None  # elsewhere the word may mean something else
    body = build({**node, **replaced}, KEY, **settings)
    if not isinstance(body, nn.Module):
        raise RequestError(
            f"{KEY}.{TARGET}={node[TARGET]} gives {type(body).__name__}, not a torch.nn.Module.",
            key=f"{KEY}.{TARGET}",
            fix="Name a class of networks, or a function that builds one.",
        )
    if isinstance(body, SegmentationNetwork):
        return body
    multiple = model.get("multiple", "auto")
    return External(body, num_classes, None if multiple == "auto" else multiple)


def check_external(model: Mapping[str, Any]) -> None:
    """Check the config of an external network: that its class is there and takes its arguments.

    Raises:
        RequestError: It is not, or does not.
    """
    check_whole("model.multiple", model.get("multiple", "auto"), 1, words=("auto",))
    _checked(model)


def short_name(model: Mapping[str, Any]) -> str:
    """The name of a network in tables: the last word of an external one's class, or `model.name`."""
    network = model.get("network")
    target = network.get(TARGET) if isinstance(network, Mapping) else None
    return str(target).rpartition(".")[2] if target else str(model["name"])


def _checked(model: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """The node of the network, and what it names."""
    node = model.get("network")
    if not isinstance(node, Mapping):
        raise RequestError(
            f"{KEY}={node} is no mapping with {TARGET}.", key=KEY, fix=f"Set {KEY}.{TARGET}=MODULE.CLASS."
        )
    target = named_object(node, KEY)
    if not callable(target):
        raise RequestError(
            f"{KEY}.{TARGET}={node[TARGET]} cannot be called.",
            key=f"{KEY}.{TARGET}",
            fix="Name a class of networks, or a function that builds one.",
        )
    check_arguments(node, KEY, target)
    return node, target


def _path_to_tensor(output: Any) -> tuple[Any, ...]:
    """The keys that lead from a module's output to its logits."""
    path: list[Any] = []
    while not isinstance(output, Tensor):
        if isinstance(output, Mapping) and output:
            path.append("out" if "out" in output else next(iter(output)))
        elif isinstance(output, list | tuple) and output:
            path.append(0)
        else:
            break
        output = output[path[-1]]
    return tuple(path)


def _at(output: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        output = output[key]
    return output


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode within a block, without gradients; each part gets its own mode back."""
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
