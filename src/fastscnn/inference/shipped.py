"""The trained networks that come with the package: `weights/` of a checkout, and its copy in an installed package."""

from pathlib import Path
from typing import NamedTuple

from fastscnn.utils.errors import RequestError

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]
DEFAULT = "camvid"
"""The network that predicts where none is named."""


class Shipped(NamedTuple):
    """A network that comes with the package.

    Attributes:
        folder: The folder of its weights in `weights/`; its README.md is the card.
        classes: What it predicts.
        suited: What it is good for, and what it is bad at.
    """

    folder: str
    classes: str
    suited: str


NETWORKS = {
    "camvid": Shipped(
        "fast_scnn_camvid",
        "the 11 classes of CamVid",
        "Suited to street photographs from a car in daylight or at dusk; weak at fences, poles and signs, and untested "
        "in other cities, at night and in bad weather.",
    ),
    "streets": Shipped(
        "fast_scnn_streets",
        "the 19 classes of Cityscapes",
        "Suited to the drawn streets of data=streets alone, for trying the commands without any data; of no use on "
        "photographs.",
    ),
}
"""Name to network."""


def shipped_folder(name: str) -> Path:
    """The folder of a network that comes with the package, a `checkpoint` for every command.

    Raises:
        RequestError: There is no such network, or its files are missing.
    """
    if name not in NETWORKS:
        raise RequestError(
            f"{name!r} is no network that comes with fastscnn.", key="name", fix=f"Choose one of {', '.join(NETWORKS)}."
        )
    folder = NETWORKS[name].folder
    places = [root / "weights" / folder for root in (CHECKOUT, PACKAGE)]
    for place in places:
        if (place / "model.safetensors").is_file():
            return place
    raise RequestError(
        f"The weights of {name} are missing: {places[0] / 'model.safetensors'} does not exist.",
        key="checkpoint",
        fix="Install fastscnn from a complete checkout, or set checkpoint=FILE.",
    )


def described(name: str) -> str:
    """One paragraph on a network that comes with the package: what it predicts and what it is suited to."""
    return f"the shipped network {name}, {NETWORKS[name].classes}. {NETWORKS[name].suited}"
