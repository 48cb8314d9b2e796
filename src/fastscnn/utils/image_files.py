"""Checking image files: their kind before they are opened, and their size before they are decoded."""

import os
import re
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import PIL.Image
import PIL.ImageFile

from fastscnn.utils.files import kind_of_mode

MAX_PIXELS = 200_000_000
"""Pixels of the largest picture that is decoded by default: 600 MB as RGB."""
LARGEST = 2**36
"""Pixels of a picture that no reader takes, 200 GB as RGB: a larger one is in a damaged or a hostile header."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".avif", ".gif", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
"""How the names of image files end, in small letters."""
ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held: 1 to 8, 1 is upright."""

_PNG = b"\x89PNG\r\n\x1a\n"
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "SUN")
"""Formats that OpenCV reads too, by their names in PIL."""
_UNKNOWN_TO_PIL = (
    re.compile(rb"#\?(?:RADIANCE|RGBE)\b.*?\n[-+]Y (?P<height>\d+) [-+]X (?P<width>\d+)", re.DOTALL),
    re.compile(rb"P7\n(?=.*?^WIDTH (?P<width>\d+))(?=.*?^HEIGHT (?P<height>\d+))", re.DOTALL | re.MULTILINE),
    re.compile(rb"P[Ff]\s+(?P<width>\d+)\s+(?P<height>\d+)"),
)
"""Headers of the formats that OpenCV reads and PIL does not: Radiance HDR, PAM, PFM."""


class ImageFileError(OSError):
    """An image file that cannot be read.

    Attributes:
        path: The file.
        found: What is wrong with it, to be read after its name.
        fix: What to do.
        setting: The setting to change, if any.
    """

    def __init__(self, path: str | Path, found: str, fix: str, setting: str = "") -> None:
        super().__init__(f"{path} {found} {fix}")
        self.path = path
        self.found = found
        self.fix = fix
        self.setting = setting

    @property
    def problem(self) -> str:
        """The message without the name of the file."""
        return f"{self.found} {self.fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.found, self.fix, self.setting)


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        format: Such as `PNG` or `JPEG`.
        height: Rows as they are stored.
        width: Columns as they are stored.
        orientation: The EXIF orientation, 1 to 8; 1 where the file has none.
    """

    format: str
    height: int
    width: int
    orientation: int


def check_regular_file(path: str | Path) -> None:
    """Check that a path leads to a file, following links, without opening it: opening a named pipe would block.

    Raises:
        ImageFileError: It is missing, or a folder, a named pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ImageFileError(path, f"cannot be read: {error.strerror}.", "Put the file back.") from None
    if not stat.S_ISREG(mode):
        raise ImageFileError(path, f"is {kind_of_mode(mode)}, not a file.", "Name an image file.")


def check_image_file(path: str | Path, max_pixels: int = MAX_PIXELS, *, setting: str = "max_pixels") -> Header:
    """Check the kind and the header of an image file before any pixel is decoded.

    Args:
        path: The file; links are followed.
        max_pixels: The largest picture that may be decoded.
        setting: Name of the setting of the limit, for the message.

    Raises:
        ImageFileError: It is not a file, not an image, or has more pixels.
    """
    check_regular_file(path)
    try:
        with open(path, "rb") as file:
            return checked_header(path, file, max_pixels, setting)
    except ImageFileError:
        raise
    except OSError as error:
        raise ImageFileError(path, f"cannot be read: {error.strerror}.", "Put the file back.") from None


def orientation(path: str | Path) -> int:
    """The EXIF orientation of an image file, from its header: 1 to 8; 1 if it has none.

    Raises:
        ImageFileError: It is not a file or not an image.
    """
    return check_image_file(path, 2**62).orientation


def checked_header(path: str | Path, file: BinaryIO, max_pixels: int, setting: str) -> Header:
    """The header of an open file; see `check_image_file`."""
    header = _header(file)
    if header is None:
        raise broken(path, file.seek(0, os.SEEK_END))
    pixels = header.height * header.width
    if max_pixels < pixels and pixels > LARGEST:
        raise ImageFileError(
            path,
            f"is {header.height}x{header.width} by its header, more pixels than any picture that can be read.",
            "Copy or download it again, or cut it into parts.",
        )
    if pixels > max_pixels:
        raise ImageFileError(
            path,
            f"is {header.height}x{header.width}, {pixels:,} pixels, and the limit is {max_pixels:,}.",
            f"Set {setting}={pixels} if it is meant to be that large.",
            setting,
        )
    return header


def _header(file: BinaryIO) -> Header | None:
    """The header of an open file; None if it is not an image."""
    first = file.read(4096)
    if first.startswith(_PNG):
        if len(first) < 33:
            return None
        width, height = struct.unpack(">II", first[16:24])
        return Header("PNG", height, width, _png_orientation(file))
    file.seek(0)
    if (image := opened(file)) is not None:
        turn = _exif_orientation(image.getexif)
        width, height = image.size
        if image.format == "TIFF" and turn >= 5:  # PIL gives the size after turning
            width, height = height, width
        return Header(image.format or "", height, width, turn)
    if found := next(filter(None, (pattern.match(first) for pattern in _UNKNOWN_TO_PIL)), None):
        return Header("", int(found["height"]), int(found["width"]), 1)
    return None


def opened(file: BinaryIO) -> PIL.ImageFile.ImageFile | None:
    """An image whose header PIL has read; None if PIL does not know the format.

    It does what `PIL.Image.open` does, without the limit on pixels, which PIL has for the whole process.
    """
    first = file.read(16)
    PIL.Image.preinit()  # the common formats
    for name in _FORMATS:
        if name not in PIL.Image.OPEN:
            PIL.Image.init()  # all
        factory, accepts = PIL.Image.OPEN.get(name, (None, None))
        try:
            if factory is None or accepts is None or accepts(first) is not True:
                continue
            file.seek(0)
            return factory(file, "")
        except Exception:  # each plugin raises other errors for a broken file
            continue
    return None


def _exif_orientation(exif: Callable[[], PIL.Image.Exif]) -> int:
    try:
        value = exif().get(ORIENTATION)
    except Exception:  # viewers ignore broken EXIF data
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_orientation(file: BinaryIO) -> int:
    """The orientation of a PNG; it may follow the pixels, which PIL would decode to find it."""
    place = len(_PNG)
    while True:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if kind == b"eXIf":
            return _exif_orientation(partial(_exif, file.read(length)))
        if kind in (b"IEND", b"\0\0\0\0"):
            return 1
        place += 12 + length


def _exif(data: bytes) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif.load(b"Exif\0\0" + data.removeprefix(b"Exif\0\0"))
    return exif


def broken(path: str | Path, size: int) -> ImageFileError:
    """The error for a file that is not an image, or incomplete."""
    return ImageFileError(path, f"is not a complete image ({size:,} bytes).", "Copy or download it again.")
