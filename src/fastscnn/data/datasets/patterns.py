"""Where the images and masks of a folder are: patterns such as `images/{split}/{name}`, and the files that fit them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fastscnn.data.datasets.frames import DataError
from fastscnn.utils.image_files import SUFFIXES

SPLIT, NAME = "{split}", "{name}"


def check_pattern(key: str, pattern: object) -> str:
    """Check that a pattern can name files.

    Args:
        key: The setting that holds it, such as `data.images`.
        pattern: A path below `data.root` with `{name}` and, if it has one, `{split}`.

    Raises:
        DataError: It has no `{name}`, or holds other braces.
    """
    text = str(pattern)
    rest = text.replace(SPLIT, "").replace(NAME, "")
    if not isinstance(pattern, str) or NAME not in text or "{" in rest or "}" in rest:
        raise DataError(
            f"{key}={text} is no pattern of files: it takes {NAME}, and {SPLIT} where each split has its own folder.",
            key=key,
            fix=f"Quote it as Hydra needs it: '{key}=\"{key.rpartition('.')[2]}/{SPLIT}/{NAME}.png\"'.",
        )
    return text


def without_split(pattern: str) -> str:
    """The pattern of the same files where they are not in a folder for each split."""
    return pattern.replace(f"{SPLIT}/", "").replace(SPLIT, "")


def matching(root: Path, pattern: str, split: str = "") -> dict[str, Path]:
    """Name to file, for all files that a pattern fits, sorted by name; hidden files and folders are left out.

    A name is what stands for `{name}`, which may hold folders. A pattern that ends with it fits image files with any
    of the usual suffixes.

    Args:
        root: Folder that the pattern is below.
        pattern: Of `check_pattern`.
        split: What stands for `{split}`.

    Raises:
        DataError: Two files have the same name.
    """
    filled = Path(root, Path(pattern.replace(SPLIT, split)).expanduser())
    parts = filled.parts
    first = next(place for place, part in enumerate(parts) if NAME in part)
    top = Path(*parts[:first])
    fits = re.compile(_expression("/".join(parts[first:])))
    found: dict[str, Path] = {}
    for path in _files(top):
        match = fits.fullmatch(path.relative_to(top).as_posix())
        if not match:
            continue
        if other := found.get(match["name"]):
            raise DataError(
                f"{other} and {path} have the same name.",
                key="data.root",
                fix="Remove or rename one of them, or name the suffix in data.images and data.masks, as in "
                "'data.images=\"images/{split}/{name}.jpg\"'.",
            )
        found[match["name"]] = path
    return dict(sorted(found.items()))


def _expression(pattern: str) -> str:
    """The regular expression of a path; whatever stands for the name is the same everywhere in it."""
    first, *others = (re.escape(part) for part in pattern.split(NAME))
    expression = f"{first}(?P<name>.+)" + "(?P=name)".join(others)
    if not pattern.endswith(NAME):
        return expression
    suffixes = "|".join(re.escape(suffix) for suffix in SUFFIXES)
    return f"{expression}(?i:{suffixes})"


def _files(top: Path) -> Iterator[Path]:
    """All files below a folder, those of linked folders too; no folder is entered twice on the way down."""
    above: dict[str, tuple[str, ...]] = {str(top): (os.path.realpath(top),)}
    for folder, folders, files in os.walk(top, followlinks=True):
        inside = above.pop(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            real = os.path.realpath(os.path.join(folder, name))
            if real in inside:
                folders.remove(name)
            else:
                above[os.path.join(folder, name)] = (*inside, real)
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
