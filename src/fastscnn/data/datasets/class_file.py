"""`classes.yaml`: what the masks of a folder hold, and what the classes are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from fastscnn.data.datasets.classes import IGNORE_INDEX, ClassTable
from fastscnn.data.datasets.colors import Color, ColorMap
from fastscnn.data.datasets.frames import DataError
from fastscnn.utils.plain_files import read_yaml

FILE = "classes.yaml"
VALUES, COLORS = "values", "colors"
MOST = 255
"""Classes of one data set: 255 is the value of an ignored pixel."""
OF_A_CLASS = ("name", "color", "value", "category")
EXAMPLE = "- {name: road, color: [128, 64, 128]}"


class Classes(NamedTuple):
    """What `classes.yaml` says.

    Attributes:
        table: The classes; where masks hold colours, a class's value is its place.
        colors: Where masks hold colours: the value of each.
    """

    table: ClassTable
    colors: ColorMap | None = None


def read_classes(file: Path, name: str, propose: str) -> Classes:
    """Read a file of classes.

    Args:
        file: The file.
        name: Name of the data set in messages, where the file has none.
        propose: The command that writes such a file.

    Raises:
        DataError: It is missing, or a value in it is not what it must be; names the file and the value.
    """
    try:
        content = OmegaConf.to_container(read_yaml(file))
    except FileNotFoundError:
        raise DataError(
            f"{file} is missing: it says what the classes are called and what the masks hold.",
            key="data.classes",
            fix=f"`{propose}` proposes one from the masks.",
        ) from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{file} cannot be read: {cause}.", key="data.classes", fix="Correct it.") from None
    return _checked(file, content, name)


def class_lines(classes: Classes, comments: Sequence[str] = ()) -> str:
    """The content of a file of classes, a line for each, with a comment at its end if there are some."""
    table, mapped = classes.table, classes.colors
    ignored = [list(color) for color in mapped.ignored] if mapped else list(table.ignored_values)
    lines = [f"masks: {COLORS if mapped else VALUES}", f"ignored: {ignored}", "classes:"]
    for place, (name, color, value) in enumerate(zip(table.names, table.colors, table.file_values, strict=True)):
        shown = "" if mapped else f", value: {value}"
        category = f", category: {_quoted(table.categories[place])}" if table.categories else ""
        comment = f" # {comments[place]}" if comments else ""
        lines.append(f"  - {{name: {_quoted(name)}, color: {list(color)}{shown}{category}}}{comment}")
    return "\n".join(lines) + "\n"


def distinct_colors(count: int) -> list[Color]:
    """Colours that differ clearly, by the bits of each number, as Pascal VOC has them; none is black."""
    colors = []
    for number in range(1, count + 1):
        bits = [[(number >> (3 * place + channel)) & 1 for place in range(8)] for channel in range(3)]
        red, green, blue = (sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits)
        colors.append((red, green, blue))
    return colors


def _checked(file: Path, content: Any, name: str) -> Classes:
    if not isinstance(content, Mapping) or not isinstance(content.get("classes"), list) or not content["classes"]:
        raise _wrong(file, "has no list of classes", f"Write one line for each, such as `{EXAMPLE}`.")
    for key in content:
        if key not in ("name", "masks", "ignored", "classes"):
            raise _wrong(file, f"has an unknown key {key}", "Use name, masks, ignored and classes.")
    masks = content.get("masks", VALUES)
    if masks not in (VALUES, COLORS):
        raise _wrong(file, f"has masks: {masks}", f"Write masks: {VALUES} or masks: {COLORS}.")
    rows = [_row(file, number, row) for number, row in enumerate(content["classes"], 1)]
    if len(rows) > MOST:
        raise _wrong(file, f"has {len(rows)} classes", f"A label holds at most {MOST} classes.")
    names = [str(row["name"]) for row in rows]
    _refuse_repeated(file, "name", names)
    categories = [row["category"] for row in rows if "category" in row]
    if categories and len(categories) < len(rows):
        missing = next(row["name"] for row in rows if "category" not in row)
        raise _wrong(file, f"gives {missing} no category, and others have one", "Give all of them one, or none.")
    colors = [tuple(row["color"]) if "color" in row else None for row in rows]
    ignored: tuple[int, ...]
    if masks == COLORS:
        values, ignored, mapped = list(range(len(rows))), (IGNORE_INDEX,), _color_map(file, content, names, colors)
    else:
        values = [row.get("value", place) for place, row in enumerate(rows)]
        _refuse_repeated(file, "value", values)
        ignored, mapped = _ignored_values(file, content, values), None
    spare = (color for color in distinct_colors(2 * MOST) if color not in colors)
    table = ClassTable(
        name=str(content.get("name", name)),
        names=tuple(names),
        colors=tuple(color or next(spare) for color in colors),
        file_values=tuple(values),
        ignored_values=ignored,
        categories=tuple(map(str, categories)),
    )
    return Classes(table, mapped)


def _row(file: Path, number: int, row: Any) -> Mapping[str, Any]:
    """One class, checked by itself."""
    if not isinstance(row, Mapping) or row.get("name") is None or str(row["name"]).strip() == "":
        raise _wrong(file, f"has a class without a name (number {number})", f"Write `{EXAMPLE}`.")
    place = f"class {row['name']}"
    for key in row:
        if key not in OF_A_CLASS:
            raise _wrong(file, f"gives {place} an unknown key {key}", f"Use {', '.join(OF_A_CLASS)}.")
    if "color" in row and not _is_color(row["color"]):
        raise _wrong(file, f"gives {place} the color {row['color']}", "Write [red, green, blue], each from 0 to 255.")
    if "value" in row and not _is_byte(row["value"]):
        raise _wrong(file, f"gives {place} the value {row['value']}", "Write a whole number from 0 to 255.")
    return row


def _color_map(file: Path, content: Mapping[str, Any], names: Sequence[str], colors: Sequence[Color | Any]) -> ColorMap:
    for name, color in zip(names, colors, strict=True):
        if color is None:
            raise _wrong(file, f"gives class {name} no color, and the masks hold colours", "Give it the masks' one.")
    ignored = [] if content.get("ignored") is None else content["ignored"]
    ignored = [ignored] if _is_color(ignored) else ignored
    if not isinstance(ignored, list) or not all(map(_is_color, ignored)):
        raise _wrong(file, f"has ignored: {ignored}", "Write a list of colours, such as [[0, 0, 0]].")
    _refuse_repeated(file, "color", [*colors, *map(tuple, ignored)])
    return ColorMap(tuple(colors), tuple(map(tuple, ignored)))


def _ignored_values(file: Path, content: Mapping[str, Any], values: Sequence[int]) -> tuple[int, ...]:
    ignored = content.get("ignored", [IGNORE_INDEX] if IGNORE_INDEX not in values else [])
    ignored = [ignored] if _is_byte(ignored) else [] if ignored is None else ignored
    if not isinstance(ignored, list) or not all(map(_is_byte, ignored)):
        raise _wrong(file, f"has ignored: {ignored}", "Write whole numbers from 0 to 255, such as [255].")
    for value in ignored:
        if value in values:
            raise _wrong(file, f"ignores the value {value} of a class", "Take it out of one of the two.")
    return tuple(ignored)


def _refuse_repeated(file: Path, what: str, values: Sequence[Any]) -> None:
    if twice := [value for value in values if list(values).count(value) > 1]:
        shown = list(twice[0]) if isinstance(twice[0], tuple) else twice[0]
        raise _wrong(file, f"has the {what} {shown} twice", "Each class needs its own.")


def _wrong(file: Path, found: str, fix: str) -> DataError:
    return DataError(f"{file} {found}.", key="data.classes", fix=fix)


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_byte, value))


def _quoted(text: str) -> str:
    """Text as YAML reads it back, whatever it holds."""
    plain = text.replace("_", "").replace(" ", "").replace("-", "")
    words = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    if plain.isalpha() and plain.isascii() and text.strip("- ") == text and text.lower() not in words:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
