"""Checking what a file says of its network before anything is built from it: files may come from anyone."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.images import ImageClasses
from fastscnn.inference.padding import TRAINED_AT
from fastscnn.models.build import check_model
from fastscnn.runs.safetensors import tuples
from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_number, check_size

LARGEST_SCALE = 4
"""Of `resolution.scale`, as in training."""
FIX = "Copy or export the file again, or name another one."


def check_config(config: Any, source: str | Path) -> None:
    """Check the parts of a config that a network is rebuilt from.

    Args:
        config: Of the training.
        source: The file, for the message.

    Raises:
        RequestError: A value is not what it must be; its `key` is that of the value.
    """
    if not isinstance(config, Mapping):
        raise wrong(source, "config", config, "a mapping")
    if not isinstance(config.get("init") or {}, Mapping):
        raise wrong(source, "init", config["init"], "a mapping, or null")
    for key in ("data", "loss", "trainer", "resolution", "calibration"):
        if not isinstance(config.get(key, {}), Mapping):
            raise wrong(source, key, config[key], "a mapping")
    model = config.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("name"), str):
        raise wrong(source, "model", model, "a mapping with a name")
    with _named(source):
        check_model(model)
        if "resolution" in config:
            for key in ("scale", TRAINED_AT) if TRAINED_AT in config["resolution"] else ("scale",):
                check_number(f"resolution.{key}", config["resolution"].get(key), above=0, maximum=LARGEST_SCALE)
        if "frame_size" in config.get("data", {}):
            frame_size(config["data"]["frame_size"])
        if config.get("calibration"):
            check_number("calibration.temperature", config["calibration"].get("temperature"), above=0)
    if not isinstance(name := config.get("resolution", {}).get("name", ""), str):
        raise wrong(source, "resolution.name", name, "a name")


def frame_size(value: Any) -> tuple[int, int]:
    """Height and width of the frames that a network was trained on, as a file holds them.

    Raises:
        RequestError: They are none.
    """
    check_size("data.frame_size", value)
    height, width = value
    return height, width


def class_table(fields: Any, source: str | Path) -> ClassTable:
    """The table of classes that a file holds.

    Args:
        fields: Of the table, with lists or tuples.
        source: The file, for the message.

    Raises:
        RequestError: A value is not what it must be; its `key` is that of the value.
    """
    needed = ("name", "names", "colors", "file_values", "ignored_values")
    known = (*needed, "categories", "ignore_index")
    if not isinstance(fields, Mapping) or not {*needed} <= fields.keys() <= {*known}:
        found = ", ".join(map(str, fields)) if isinstance(fields, Mapping) else fields
        raise wrong(source, "classes", found, f"a mapping with {', '.join(known)}")
    names = check_names(fields["names"], source)
    count = len(names)
    tests = {
        "name": (isinstance(fields["name"], str), "a text"),
        "colors": (_are(fields["colors"], count, _is_color), f"{count} colors, [red, green, blue] from 0 to 255"),
        "file_values": (
            _are(fields["file_values"], count, _is_byte) and len({*fields["file_values"]}) == count,
            f"{count} different numbers from 0 to 255",
        ),
        "ignored_values": (_are(fields["ignored_values"], None, _is_byte), "numbers from 0 to 255"),
        "categories": (
            not fields.get("categories", ()) or _are(fields["categories"], count, lambda name: isinstance(name, str)),
            f"{count} names, or none",
        ),
        "ignore_index": (
            _is_byte(fields.get("ignore_index", 255)) and fields.get("ignore_index", 255) >= count,
            f"a number from {count} to 255",
        ),
    }
    for field, (right, expected) in tests.items():
        if not right:
            raise wrong(source, f"classes.{field}", fields[field], expected)
    return ClassTable(**{key: tuples(value) for key, value in fields.items()})


def image_classes(fields: Any, source: str | Path) -> ImageClasses:
    """The classes of an image classifier that a file holds; as `class_table`."""
    if not isinstance(fields, Mapping) or fields.keys() != {"name", "names"} or not isinstance(fields["name"], str):
        found = ", ".join(map(str, fields)) if isinstance(fields, Mapping) else fields
        raise wrong(source, "classes", found, "a mapping with name and names")
    return ImageClasses(fields["name"], tuple(check_names(fields["names"], source, most=10**6)))


def check_names(names: Any, source: str | Path, most: int = 255) -> list[str] | tuple[str, ...]:
    """Check the names of classes.

    Raises:
        RequestError: They are not a sequence of texts, or there are none or too many.
    """
    if not _are(names, None, lambda name: isinstance(name, str)) or not 0 < len(names) <= most:
        raise wrong(source, "classes.names", names, f"1 to {most} names")
    checked: list[str] | tuple[str, ...] = names
    return checked


def check_tensors(tensors: Any, source: str | Path) -> None:
    """Check that tensors have names and hold finite numbers.

    Raises:
        RequestError: They do not.
    """
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise wrong(source, "state_dict", type(tensors).__name__, "tensors by their names")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise RequestError(
                f"checkpoint={source}: its weights {name} are not all finite numbers: the training diverged, or the "
                "file is damaged.",
                key="checkpoint",
                fix="Name another checkpoint, such as one from before.",
            )


def wrong(source: str | Path, key: str, value: Any, expected: str) -> RequestError:
    """The error of a value in a file."""
    shown = str(value)
    shown = f"{shown[:60]}…" if len(shown) > 60 else shown
    problem = f"checkpoint={source}: its {key} is {shown}, not {expected}."
    return RequestError(problem, key=key, fix=FIX)


@contextlib.contextmanager
def _named(source: str | Path) -> Iterator[None]:
    """Name the file in the error of a check that knows only the value."""
    try:
        yield
    except RequestError as error:
        problem = f"checkpoint={source}: its {error.args[0]}"
        raise RequestError(problem, key=error.key, fix=error.fix) from None


def _are(values: Any, count: int | None, right: Callable[[Any], bool]) -> bool:
    return isinstance(values, list | tuple) and len(values) == (count or len(values)) and all(map(right, values))


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return _are(value, 3, _is_byte)
