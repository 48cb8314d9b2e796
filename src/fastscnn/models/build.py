"""Building a network from a plain config: the list of the names that a config or a checkpoint may have."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastscnn.models.base import SegmentationNetwork
from fastscnn.models.blocks import ACTIVATIONS
from fastscnn.models.external import NAME as EXTERNAL
from fastscnn.models.external import build_external, check_external
from fastscnn.models.fast_scnn import SKIPS, FastSCNN
from fastscnn.models.image_classifier import ImageClassifier
from fastscnn.models.peers import PEERS, Peer, require_library
from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_choice, check_number

FAST_SCNN = "fast_scnn"
MODELS = (FAST_SCNN, *PEERS, EXTERNAL)
"""The values of `model.name`."""
SETTINGS = ("in_channels", "activation", "skip", "dropout")
PEER_SETTINGS = ("in_channels",)
EXTERNAL_SETTINGS = ("in_channels", "multiple", "network")


def check_model(model: Mapping[str, Any]) -> None:
    """Check a `model` config: its name, and that the network of this name has the other settings.

    Raises:
        RequestError: The name is not in the list, a setting is of another model, or the library that a peer comes from
            is not installed.
    """
    name = model["name"]
    if name not in MODELS:
        raise RequestError(
            f"model.name={name} is unknown.", key="model.name", fix=f"Set it to one of {', '.join(MODELS)}."
        )
    for setting, value in model.items():
        if setting not in ("name", *{FAST_SCNN: SETTINGS, EXTERNAL: EXTERNAL_SETTINGS}.get(name, PEER_SETTINGS)):
            if setting in SETTINGS:
                problem = f"{setting}={value} is a choice of model={FAST_SCNN} alone, and this is {name}."
                raise RequestError(problem, key=setting, fix=f"Leave {setting} out.")
            key = f"model.{setting}"
            raise RequestError(f"{key}={value} is no setting of model={name}.", key=key, fix="Leave it out.")
    if "in_channels" in model:
        check_choice("model.in_channels", model["in_channels"], (3,))
    if name == EXTERNAL:
        check_external(model)
        return
    if name != FAST_SCNN:
        require_library(name)
        return
    check_choice("model.activation", model.get("activation", "relu"), tuple(ACTIVATIONS))
    check_choice("model.skip", model.get("skip", "keep"), SKIPS)
    check_number("model.dropout", model.get("dropout", 0.1), minimum=0, below=1)


def build_network(model: Mapping[str, Any], num_classes: int, *, pretrained: bool = True) -> SegmentationNetwork:
    """Build the network of a `model` config: `name`, and the arguments of its class.

    Args:
        model: The config.
        num_classes: Number of classes.
        pretrained: Whether an external network may load weights of its own; not where a checkpoint's replace them.

    Raises:
        RequestError: As `check_model`; or an external network cannot be built, or gives no logits.
        ValueError: An argument is outside what it may be.
    """
    check_model(model)
    if model["name"] == EXTERNAL:
        return build_external(model, num_classes, pretrained=pretrained)
    arguments = {setting: value for setting, value in model.items() if setting != "name"}
    build = FastSCNN if model["name"] == FAST_SCNN else partial(Peer, model["name"])
    return build(num_classes=num_classes, **arguments)


def build_classifier(model: Mapping[str, Any], num_classes: int) -> ImageClassifier:
    """Build the image classifier that pre-trains the network of a `model` config.

    Raises:
        RequestError: The network has none.
    """
    if model["name"] != FAST_SCNN:
        raise RequestError(
            f"model={model['name']} has no image classifier to pre-train.", key="model", fix=f"Set model={FAST_SCNN}."
        )
    return ImageClassifier(num_classes, **{key: model[key] for key in ("in_channels", "activation", "dropout")})
