"""The one image reader: what it refuses before it opens, how it turns pictures, and label files of other tools."""

import errno
import io
import os
import socket
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from fastscnn.utils.images import (
    ImageFileError,
    check_image_file,
    open_pil,
    orientation,
    read_label,
    read_rgb,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth, color, values, *chunks, after=()):
    """A PNG of one row after another, written by hand."""
    rows = [int("".join(f"{value:0{depth}b}" for value in row), 2).to_bytes(len(row) * depth // 8) for row in values]
    header = struct.pack(">IIBBBBB", len(values[0]), len(values), depth, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, *after, chunk(b"IEND", b"")])


def oriented(path, turn, picture=PICTURE):
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    PIL.Image.fromarray(picture).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_a_picture_is_turned_as_its_exif_data_says_or_left_as_it_is_stored(tmp_path, suffix, turn):
    path = oriented(tmp_path / f"a{suffix}", turn)
    stored, upright = read_rgb(path, upright=False), read_rgb(path, upright=True)
    seen = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(path)).convert("RGB"), int)
    assert orientation(path) == turn
    assert stored.shape == PICTURE.shape
    assert upright.shape == seen.shape
    assert np.abs(upright - seen).mean() < 3  # decoders differ, by far less than wrongly turned noise
    assert np.abs(stored - PICTURE.astype(int)).mean() < 40 < np.abs(stored - PICTURE[::-1, ::-1].astype(int)).mean()


def test_exif_data_behind_the_pixels_of_a_png_counts_and_broken_data_does_not(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    values = [[3] * 8] * 2
    for name, file, turn in (
        ("behind", png(8, 0, values, after=[chunk(b"eXIf", data)]), 6),
        ("broken", png(8, 0, values, chunk(b"eXIf", b"nonsense")), 1),
        ("none", png(8, 0, values), 1),
    ):
        (tmp_path / name).write_bytes(file)
        assert orientation(tmp_path / name) == turn


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jp2", ".ppm", ".pgm", ".pam", ".pfm", ".hdr", ".sr"])
def test_every_other_kind_that_opencv_reads_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    picture = PICTURE[..., 0] if suffix == ".pgm" else PICTURE
    assert cv2.imwrite(str(path), picture.astype(np.float32) if suffix in (".pfm", ".hdr") else picture)
    header = check_image_file(path)
    assert (header.height, header.width, header.orientation) == (48, 80, 1)
    assert np.array_equal(read_rgb(path, upright=True), cv2.imread(str(path))[..., ::-1])


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name, kind in (
        ("pipe", "a named pipe"),
        ("link", "a named pipe"),
        ("folder.png", "a folder"),
        ("socket", "a socket"),
        ("/dev/null", "a device"),
    ):
        for read in (read_label, open_pil, check_image_file, orientation, lambda path: read_rgb(path, upright=True)):
            with pytest.raises(ImageFileError, match=f"{name} .*{kind}"):
                read(tmp_path / name)
    with pytest.raises(ImageFileError, match=os.strerror(errno.ENOENT)):
        read_rgb(tmp_path / "none.png", upright=True)


def test_a_huge_picture_is_refused_by_its_header(tmp_path, monkeypatch):
    """Of a file that has no more than a header, so that whoever decoded it would find it broken instead."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(9)))
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(9))
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    start = buffer.getvalue().index(b"\xff\xc0") + 5
    jpeg = buffer.getvalue()[:start] + struct.pack(">HH", 60000, 60000) + buffer.getvalue()[start + 4 :]
    (tmp_path / "a.jpg").write_bytes(jpeg)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for name in ("a.png", "a.hdr", "a.jpg"):
        with pytest.raises(ImageFileError, match="60000x60000") as caught:
            read_rgb(tmp_path / name, upright=True, setting="data.max_pixels")
        assert (caught.value.path, caught.value.setting) == (tmp_path / name, "data.max_pixels")
        assert "data.max_pixels=3600000000" in caught.value.fix


def test_the_limit_is_the_number_of_pixels_that_is_asked_for(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE[..., ::-1])
    assert np.array_equal(read_rgb(tmp_path / "a.png", upright=True, max_pixels=48 * 80), PICTURE)
    with pytest.raises(ImageFileError, match=r"48x80.* 3,839") as caught:
        read_rgb(tmp_path / "a.png", upright=True, max_pixels=48 * 80 - 1)
    assert (caught.value.setting, "max_pixels=3840" in caught.value.fix) == ("max_pixels", True)


def test_pil_own_limit_is_neither_met_nor_moved(tmp_path, monkeypatch, recwarn):
    """It is one for the process, which belongs to whoever uses this as a library."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    PIL.Image.fromarray(PICTURE).save(tmp_path / "a.jpg")
    assert read_rgb(tmp_path / "a.jpg", upright=True).shape == PICTURE.shape
    assert open_pil(tmp_path / "a.jpg").convert("RGB").size == (80, 48)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10
    assert not recwarn.list


def test_a_broken_file_and_no_image_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "whole.png"), PICTURE)
    data = (tmp_path / "whole.png").read_bytes()
    for name, content in (("half.png", data[: len(data) // 2]), ("text.png", b"none"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        for read in (read_label, lambda path: read_rgb(path, upright=True)):
            with pytest.raises(ImageFileError, match=name):
                read(tmp_path / name)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("color", ["grey", "grey with a transparent value", "palette"])
def test_indices_of_any_depth_are_read_as_they_are_stored(tmp_path, depth, color):
    values = np.random.default_rng(depth).integers(0, 2**depth, (5, 16))
    extra = {
        "grey": (),
        "grey with a transparent value": (chunk(b"tRNS", b"\0\1"),),
        "palette": (chunk(b"PLTE", bytes(reversed(range(3 * 2**depth % 256)))), chunk(b"tRNS", b"\0")),
    }[color]
    (tmp_path / "a.png").write_bytes(png(depth, 3 if color == "palette" else 0, values.tolist(), *extra))
    label = read_label(tmp_path / "a.png")
    assert label.dtype == np.uint8
    assert np.array_equal(label, values)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_a_palette_label_as_pil_writes_it_is_its_indices(tmp_path, suffix):
    values = np.random.default_rng(0).integers(0, 21, (5, 7), np.uint8)
    image = PIL.Image.fromarray(values, "P")
    image.putpalette([200, 10, 10] * 3 + list(range(250)))  # several classes of one colour
    image.save(tmp_path / f"a.{suffix}", **({"optimize": False} if suffix == "gif" else {}))
    assert np.array_equal(read_label(tmp_path / f"a.{suffix}"), values)


@pytest.mark.parametrize(
    ("mode", "suffix", "found"),
    [
        ("I;16", "png", r"16-bit numbers"),
        ("I;16", "tif", "16-bit numbers"),
        ("F", "tif", "floating-point numbers"),
        ("I", "tif", "32-bit numbers"),
        ("RGB", "png", r"RGB"),
        ("RGBA", "png", "RGBA"),
        ("LA", "png", "alpha"),
    ],
)
def test_what_is_no_index_is_called_what_it_is(tmp_path, mode, suffix, found):
    PIL.Image.new(mode, (8, 4)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(ImageFileError, match=rf"a\.{suffix} .*{found}"):
        read_label(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(("kind", "holds"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit numbers")])
def test_a_whole_picture_of_numbers_is_not_called_incomplete(tmp_path, kind, holds):
    PIL.Image.fromarray(PICTURE[..., 0].astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match=f"holds {holds}") as error:
        read_rgb(tmp_path / "a.tif", upright=True)
    assert error.value.fix == "Convert it to 8 bits."


def test_no_limit_is_advised_that_no_reader_reaches(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
    with pytest.raises(ImageFileError, match="more pixels than any picture") as error:
        read_rgb(tmp_path / "a.png", upright=True)
    assert "max_pixels" not in str(error.value)


@pytest.mark.parametrize("missing", [8, 12, 500])
def test_a_cut_png_is_refused_without_lines_of_the_decoder(tmp_path, missing, capfd):
    data = cv2.imencode(".png", PICTURE)[1].tobytes()
    (tmp_path / "a.png").write_bytes(data[:-missing])
    with pytest.raises(ImageFileError, match="not a complete image"):
        read_rgb(tmp_path / "a.png", upright=True)
    assert capfd.readouterr().err == ""
    (tmp_path / "longer.png").write_bytes(data + bytes(5000))
    assert (read_rgb(tmp_path / "longer.png", upright=True) == PICTURE[..., ::-1]).all()
