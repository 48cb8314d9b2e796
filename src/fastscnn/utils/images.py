"""Reading image files, for training, evaluation and prediction; files are checked before they are opened."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.ImageFile

from fastscnn.utils.image_files import (
    MAX_PIXELS,
    Header,
    ImageFileError,
    broken,
    check_image_file,
    check_regular_file,
    checked_header,
    opened,
    orientation,
)

__all__ = [
    "MAX_PIXELS",
    "Header",
    "ImageFileError",
    "check_image_file",
    "check_regular_file",
    "open_pil",
    "orientation",
    "read_label",
    "read_rgb",
    "turned",
]

Picture = npt.NDArray[np.uint8]
_CHANNELS = {
    "RGB": "3 channels (RGB)",
    "RGBA": "4 channels (RGBA)",
    "LA": "2 channels (grey and alpha)",
    "PA": "a palette with an alpha channel",
    "CMYK": "4 channels (CMYK)",
    "YCbCr": "3 channels (YCbCr)",
    "F": "floating-point numbers",
    "I": "32-bit numbers",
}


def read_rgb(path: str | Path, *, upright: bool, max_pixels: int = MAX_PIXELS, setting: str = "max_pixels") -> Picture:
    """Read an image as RGB; uint8 [H, W, 3].

    Args:
        path: The file.
        upright: Turn the image as its EXIF orientation says, as viewers do. Otherwise the pixels come as they are
            stored.
        max_pixels: The largest picture that is decoded.
        setting: Name of the setting of the limit, for the message.

    Raises:
        ImageFileError: It is not a file, not a complete image, or has more pixels.
    """
    header, data = _read(path, max_pixels, setting)
    pixels = _decoded(path, data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    if header.format == "TIFF":  # OpenCV turns these in spite of the flag
        return rgb if upright else turned(rgb, {6: 8, 8: 6}.get(header.orientation, header.orientation))
    return turned(rgb, header.orientation) if upright else rgb


def read_label(path: str | Path, *, max_pixels: int = MAX_PIXELS, setting: str = "max_pixels") -> Picture:
    """Read the indices of a label file as they are stored; uint8 [H, W].

    It takes grey of 1, 2, 4 or 8 bits, and palettes (VOC, labelme), whose indices are read and not their colours. Most
    decoders would scale the first three to 0 to 255, and give the colours of a palette.

    Raises:
        ImageFileError: It is not a file, not a complete image, has more pixels, or holds anything else, such as colours
            or 16 bits.
    """
    header, data = _read(path, max_pixels, setting)
    if header.format == "PNG" and data[24:26].tolist() == [8, 0]:  # 8 bits, grey
        return np.asarray(_decoded(path, data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION), np.uint8)
    try:
        image = opened(io.BytesIO(data.tobytes()))
        if image is None:
            raise broken(path, data.size)
        _check_indices(path, image)
        raw = str(image.tile[0].args) if image.tile else ""
        return np.asarray(image).astype(np.uint8) // {"L;2": 85, "L;4": 17}.get(raw, 1)
    except ImageFileError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise broken(path, data.size) from error


def turned(pixels: Picture, orientation: int) -> Picture:
    """Pixels as they are stored, [H, W, ...], turned upright: rotated and mirrored as the EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def open_pil(path: str | Path, max_pixels: int = MAX_PIXELS, *, setting: str = "max_pixels") -> PIL.ImageFile.ImageFile:
    """Open an image for PIL's own decoding and transforms, checked as `check_image_file` does; close it after use.

    Raises:
        ImageFileError: It is not a file, not an image, or has more pixels.
    """
    _, data = _read(path, max_pixels, setting)
    image = opened(io.BytesIO(data.tobytes()))
    if image is None:
        raise broken(path, data.size)
    return image


def _read(path: str | Path, max_pixels: int, setting: str) -> tuple[Header, Picture]:
    """The header and all bytes of a file."""
    check_regular_file(path)
    try:
        with open(path, "rb") as file:
            header = checked_header(path, file, max_pixels, setting)
            file.seek(0)
            data = np.fromfile(file, np.uint8)
    except ImageFileError:
        raise
    except OSError as error:
        raise ImageFileError(path, f"cannot be read: {error.strerror}.", "Put the file back.") from None
    if header.format == "PNG" and not _ends(data):  # before libpng prints a line about it
        raise broken(path, data.size)
    return header, data


def _ends(png: Picture) -> bool:
    """Whether the last part of a PNG is there, which others may have appended data to."""
    return b"IEND" in png[-64:].tobytes() or b"IEND" in png.tobytes()


def _decoded(path: str | Path, data: Picture, flags: int) -> npt.NDArray[Any]:
    try:
        pixels = cv2.imdecode(data, flags)
    except cv2.error as error:  # such as a size beyond what OpenCV takes
        raise ImageFileError(path, f"cannot be read by OpenCV ({error.err}).", "Convert it to a PNG.") from None
    if pixels is None:
        image = opened(io.BytesIO(data.tobytes()))
        if image is not None and image.mode in ("F", "I"):
            holds = f"holds {_CHANNELS[image.mode]}, not colours of 8 or 16 bits."
            raise ImageFileError(path, holds, "Convert it to 8 bits.")
        raise broken(path, data.size)
    return pixels


def _check_indices(path: str | Path, image: PIL.ImageFile.ImageFile) -> None:
    """Check that an image holds one index of at most 8 bits for each pixel."""
    if image.mode in ("1", "L", "P"):
        return
    holds = "16-bit numbers" if image.mode.startswith("I;16") else _CHANNELS.get(image.mode, f"{image.mode} pixels")
    fix = "Convert it to 8 bits." if image.mode[0] in "IF" else "Use the file of ids, not the colour picture."
    expected = "a label is a single-channel PNG of ids, up to 8 bits, grey or with a palette"
    raise ImageFileError(path, f"holds {holds}: {expected}.", fix)
