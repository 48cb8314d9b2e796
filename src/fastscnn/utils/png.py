"""PNG files of 8 bits, grey or RGB, packed and unpacked by ISA-L: several times as fast as zlib, in as many bytes.

https://www.w3.org/TR/png-3/. The pixels are the same whoever packs them; the bytes of the file are not.
"""

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

try:
    from isal import isal_zlib
except ImportError:  # a machine for which isal has no package
    isal_zlib = None  # type: ignore[assignment]

Picture = npt.NDArray[np.uint8]
fast: Any = isal_zlib or zlib
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3}
"""Colour types that are read and written here: grey, and RGB."""
IGNORED = {b"pHYs", b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"iCCP"}
"""Chunks that do not change the stored pixels: a file with any other is left to OpenCV."""
LARGEST = 2**28
"""Pixels of a file that is decoded here: OpenCV has limits of its own, and says so."""
LONGEST = 2**30
"""Bytes of a chunk."""
FASTEST = 2 if isal_zlib else 1
"""The level of `fast` that is taken for compression 1: its levels 1 and 2 take the same time."""


class _Layout(NamedTuple):
    """Size and colour type of a file of 8 bits that is not interlaced."""

    width: int
    height: int
    channels: int


def encode(picture: Picture, compression: int = 1) -> bytes:
    """A PNG file of labels [H, W] or an RGB picture [H, W, 3].

    Each row holds the differences to the one above: for labels and photographs about as small as trying every filter,
    and much faster.

    Args:
        picture: uint8, with at least one pixel.
        compression: From 1, which is fastest, to 9.

    Raises:
        ValueError: The picture has another shape or type.
    """
    if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)) or picture.size == 0:
        raise ValueError(f"a PNG is uint8 [H, W] or [H, W, 3], and this is {picture.dtype} {list(picture.shape)}")
    height, width = picture.shape[:2]
    rows = picture.reshape(height, -1)
    differences = np.empty((height, 1 + rows.shape[1]), np.uint8)
    differences[:, 0] = 2  # the filter "up"
    differences[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=differences[1:, 1:])
    packer, level = (fast, FASTEST) if compression == 1 else (zlib, compression)
    packed = memoryview(packer.compress(differences.data, level))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if picture.ndim == 2 else 2, 0, 0, 0)
    parts = [packed[start : start + LONGEST] for start in range(0, len(packed), LONGEST)]
    return b"".join([SIGNATURE, *_chunk(b"IHDR", header), *(b for part in parts for b in _chunk(b"IDAT", part)), *_END])


def decode(data: Picture) -> Picture | None:
    """The pixels of a PNG file as they are stored: uint8 [H, W] of a grey one, RGB [H, W, 3] of one in colours.

    Args:
        data: The file, uint8.

    Returns:
        None for everything that is unusual, so that OpenCV decides what to do with it: other depths, a palette, alpha,
        interlacing, an animation, and any damage.
    """
    found = _unpacked(data.data)
    if found is None:
        return None
    from fastscnn.utils.png_filters import restore  # slow to import

    layout, rows = found
    pixels = np.empty((layout.height, layout.width * layout.channels), np.uint8)
    stored = np.frombuffer(rows, np.uint8).reshape(layout.height, -1)
    if not restore(stored, layout.channels, pixels):
        return None
    return pixels if layout.channels == 1 else pixels.reshape(layout.height, layout.width, 3)


def _unpacked(data: memoryview) -> tuple[_Layout, bytes] | None:
    """The layout of a file, and its rows as they are filtered."""
    layout, parts, place = None, [], len(SIGNATURE)
    while True:
        if place + 12 > len(data):
            return None
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data) or fast.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            return None
        content = data[place + 8 : end - 4]
        if kind == b"IHDR":
            layout = _layout(content)
        elif kind == b"IDAT":
            parts.append(content)
        elif kind == b"IEND":
            break
        elif kind not in IGNORED:
            return None
        if layout is None:
            return None
        place = end
    if layout is None:
        return None
    size = layout.height * (1 + layout.width * layout.channels)
    unpacker: Any = fast.decompressobj()
    try:
        rows = unpacker.decompress(b"".join(parts), size + 1)  # never more, whatever a hostile file unpacks to
    except (zlib.error, fast.error):
        return None
    return (layout, rows) if unpacker.eof and len(rows) == size else None


def _layout(header: memoryview) -> _Layout | None:
    """The layout from a header; None for one that is not read here."""
    if len(header) != 13:
        return None
    width, height, depth, color, *methods = struct.unpack(">IIBBBBB", header)
    if depth != 8 or color not in CHANNELS or any(methods) or not 0 < width * height <= LARGEST:
        return None
    return _Layout(width, height, CHANNELS[color])


def _chunk(kind: bytes, content: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    checksum = fast.crc32(content, fast.crc32(kind))
    return struct.pack(">I4s", len(content), kind), content, struct.pack(">I", checksum)


_END = _chunk(b"IEND", b"")
