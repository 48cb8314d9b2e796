"""From a plain config to a network: the one list of the names that a config or a checkpoint may give."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.network.image_classifier import ImageClassifier

MODELS: dict[str, type[nn.Module]] = {"fast_scnn": FastSCNN}


def build_network(model: Mapping[str, Any], num_classes: int) -> FastSCNN:
    """Build the network of a `model` config: `name`, and the arguments of its class.

    Raises:
        ValueError: The name is not in the list.
    """
    arguments = dict(model)
    name = arguments.pop("name")
    if name not in MODELS:
        raise ValueError(f"model.name={name} is unknown: it is one of {', '.join(MODELS)}")
    network = MODELS[name](num_classes=num_classes, **arguments)
    assert isinstance(network, FastSCNN)
    return network


def build_classifier(model: Mapping[str, Any], num_classes: int) -> ImageClassifier:
    """Build the image classifier that pre-trains the network of a `model` config.

    Raises:
        ValueError: The network has none.
    """
    if model["name"] != "fast_scnn":
        raise ValueError(f"model.name={model['name']} has no image classifier: only fast_scnn has")
    return ImageClassifier(num_classes, **{key: model[key] for key in ("in_channels", "activation", "dropout")})
