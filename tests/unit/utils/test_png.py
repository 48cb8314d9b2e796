"""PNG files that are packed and unpacked without OpenCV, against OpenCV, PIL and the specification."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from fastscnn.utils import png
from fastscnn.utils.files import write_png
from fastscnn.utils.images import read_label, read_rgb

RANDOM = np.random.default_rng(0)
SHAPES = [(1, 1), (1, 7), (9, 1), (23, 31), (23, 31, 3), (1, 1, 3), (1, 7, 3), (9, 1, 3)]


@pytest.fixture(params=["isal", "zlib"])
def packer(request, monkeypatch):
    """With the package isal, and as where there is none."""
    if request.param == "zlib":
        monkeypatch.setattr(png, "fast", zlib)
        monkeypatch.setattr(png, "FASTEST", 1)
    else:
        assert png.fast.__name__ == "isal.isal_zlib", "pip install isal: it is a dependency"
    return png.fast


def smooth(shape):
    """A picture whose neighbours are alike, with all values."""
    noise = np.cumsum(RANDOM.integers(-9, 10, shape), axis=1) + np.cumsum(RANDOM.integers(-9, 10, shape), axis=0)
    return noise.astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def file(header, rows, *chunks, after=(), checksum=b""):
    """A PNG file of packed rows, with a checksum of its own if one is given."""
    packed = zlib.compress(rows)
    packed = packed[: len(packed) - len(checksum)] + checksum
    cut = len(packed) // 2
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks]
    parts += [chunk(b"IDAT", packed[:cut]), chunk(b"IDAT", b""), chunk(b"IDAT", packed[cut:]), *after]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def filtered(picture, kinds):
    """The rows of a picture by the filters of the specification, written out pixel by pixel."""
    height, width = picture.shape[:2]
    pixels = picture.reshape(height, width, -1).astype(int)
    rows = []
    for y, kind in enumerate(kinds):
        row = [np.uint8(kind)]
        for x in range(width):
            for c in range(pixels.shape[2]):
                a = pixels[y, x - 1, c] if x else 0
                b = pixels[y - 1, x, c] if y else 0
                corner = pixels[y - 1, x - 1, c] if x and y else 0
                nearest = min((a, b, corner), key=lambda value: abs(a + b - corner - value))
                predicted = (0, a, b, (a + b) // 2, nearest)[kind] if kind < 5 else 0
                row.append(np.uint8((pixels[y, x, c] - predicted) % 256))
        rows.append(bytes(row))
    return b"".join(rows)


def decoded(data):
    return png.decode(np.frombuffer(data, np.uint8))


def by_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [*range(5), "mixed"])
def test_every_filter_is_undone(shape, kind, packer):
    picture = smooth(shape)
    kinds = RANDOM.integers(0, 5, shape[0]) if kind == "mixed" else [kind] * shape[0]
    data = file((shape[1], shape[0], 8, 2 if len(shape) == 3 else 0, 0, 0, 0), filtered(picture, kinds))
    assert np.array_equal(decoded(data), picture)
    assert np.array_equal(by_opencv(data), picture if picture.ndim == 3 else np.stack([picture] * 3, -1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compression", [1, 6, 9])
def test_a_file_holds_the_pixels_for_every_reader(tmp_path, shape, compression, packer):
    picture = smooth(shape)
    write_png(tmp_path / "a.png", picture, compression)
    with PIL.Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)
    by_cv2 = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(by_cv2 if picture.ndim == 2 else by_cv2[..., ::-1], picture)
    read = read_label(tmp_path / "a.png") if picture.ndim == 2 else read_rgb(tmp_path / "a.png", upright=False)
    assert np.array_equal(read, picture)


def test_part_of_a_larger_array_is_written():
    picture = smooth((40, 50, 3))
    assert np.array_equal(decoded(png.encode(picture[3:30, ::2])), picture[3:30, ::2])


@pytest.mark.parametrize("picture", [smooth((300, 400, 3)), np.kron(RANDOM.integers(0, 19, (9, 9)), np.ones((40, 40)))])
def test_files_are_no_larger_than_those_of_opencv(picture):
    picture = picture.astype(np.uint8)
    filters = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    theirs = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1, *filters])[1]
    assert len(png.encode(picture)) < 1.05 * len(theirs)


@pytest.mark.parametrize(
    "picture", [np.zeros((0, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5), np.uint16)]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="PNG"):
        png.encode(picture)


def test_the_usual_file_is_read_without_opencv_and_chunks_about_it_do_not_matter(tmp_path, monkeypatch):
    picture = smooth((12, 10, 3))
    rows = filtered(picture, [4] * 12)
    about = [chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0))]
    data = file((10, 12, 8, 2, 0, 0, 0), rows, *about, after=[chunk(b"tEXt", b"Title\0street")])
    assert np.array_equal(by_opencv(data), picture)
    (tmp_path / "a.png").write_bytes(data + b"appended")
    (tmp_path / "label.png").write_bytes(png.encode(picture[..., 0]))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV's decoder, which takes twice as long"))
    assert np.array_equal(read_rgb(tmp_path / "a.png", upright=True), picture)
    assert np.array_equal(read_label(tmp_path / "label.png"), picture[..., 0])


def unusual():
    """Files that are left to OpenCV: complete ones of other kinds, and damaged ones."""
    picture = smooth((6, 5, 3))
    header, rows = (5, 6, 8, 2, 0, 0, 0), filtered(picture, [1] * 6)
    whole = file(header, rows)
    palette = PIL.Image.fromarray(picture[..., 0], "P")
    palette.putpalette(list(range(256)) * 3)
    for name, image in (
        ("a palette", palette),
        ("alpha", PIL.Image.fromarray(np.dstack([picture, picture[..., 0]]))),
        ("16 bits", PIL.Image.fromarray(picture[..., 0].astype(np.uint16) * 256)),
        ("1 bit", PIL.Image.fromarray(picture[..., 0] > 99)),
    ):
        image.save(buffer := io.BytesIO(), "PNG")
        yield name, buffer.getvalue()
    yield "a transparent colour", file(header, rows, chunk(b"tRNS", bytes(6)))
    yield "an unknown chunk", file(header, rows, chunk(b"ruSt", b"?"))
    yield "interlacing", file((5, 6, 8, 2, 0, 0, 1), rows)
    yield "no size", file((0, 6, 8, 2, 0, 0, 0), rows)
    yield "no header", b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    yield "a filter that does not exist", file(header, filtered(picture, [1, 1, 5, 1, 1, 1]))
    yield "too few rows", file(header, rows[:-1])
    yield "too many rows", file(header, rows + b"\0")
    yield "a wrong checksum of the pixels", file(header, rows, checksum=b"\0\0\0\0")
    yield "a wrong checksum of a chunk", whole[:-17] + bytes([whole[-17] ^ 1]) + whole[-16:]
    yield "a missing end", whole[:-12]
    yield "half", whole[: len(whole) // 2]


@pytest.mark.parametrize(("name", "data"), list(unusual()), ids=[name for name, _ in unusual()])
def test_what_is_unusual_is_left_to_opencv(name, data, packer):
    assert decoded(data) is None


def test_a_small_file_that_unpacks_to_much_more_is_not_unpacked(packer):
    data = file((5, 6, 8, 2, 0, 0, 0), bytes(100_000_000))
    tracemalloc.start()
    try:
        assert decoded(data) is None
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
