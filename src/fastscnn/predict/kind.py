"""Whether a file is an image or a video, by its content, or by its name if the content does not say."""

import contextlib
import re
from pathlib import Path
from typing import Any, Literal

from fastscnn.utils.image_files import SUFFIXES, ImageFileError, check_image_file

Kind = Literal["image", "video"]
IMAGES = SUFFIXES
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".f4v"),
    *(".wmv", ".asf", ".3gp", ".ogv", ".mxf", ".vob"),
)
BEGINNINGS = re.compile(
    rb"....(?:ftyp(?!hei|hev|mif|msf|avi)|moov|mdat|wide|free|skip)"  # MP4, MOV and their kin, but HEIC and AVIF
    rb"|\x1aE\xdf\xa3|RIFF....AVI |FLV\x01|OggS|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # MKV, WebM, AVI, FLV, OGV, WMV
    rb"|(?:.{4})?\x47(?:.{187}\x47.{187}\x47|.{191}\x47.{191}\x47)"  # a transport stream; that of a Blu-ray, a camera
    rb"|\x00\x00\x01[\xba\xb3]|\x06\x0e\x2b\x34|\.RMF|DKIF|YUV4MPEG2",
    re.DOTALL,
)
"""The first bytes of videos, and of some sound."""
COVER = 0x0400
"""FFmpeg's mark of a stream that is one picture, such as the cover of a song."""
NO_VIDEO = re.compile(r"tty|image2|.*_pipe")
"""Formats by which FFmpeg reads text and pictures as videos."""


def kind_of(path: Path, *, thorough: bool) -> Kind | None:
    """Whether a regular file is an image or a video; None if it is neither.

    Args:
        path: The file.
        thorough: Ask the file first, and FFmpeg about whatever it is. Else a suffix that is known decides, as in a
            folder of many files, and of the others only those are opened by FFmpeg that begin as videos do.
    """
    suffix = path.suffix.lower()
    named: Kind | None = "image" if suffix in IMAGES else "video" if suffix in VIDEOS else None
    if named and not thorough:
        return named
    if _is_image(path):
        return "image"
    return "video" if _is_video(path, thorough=thorough) else named


def moving_pictures(container: Any) -> Any:
    """The first stream of moving pictures of an open container.

    None for sound with a cover, text and a single image, which FFmpeg reads as videos too.
    """
    if NO_VIDEO.fullmatch(container.format.name):
        return None
    streams = container.streams.video
    return next((stream for stream in streams if not stream.disposition.value & COVER), None)


def _is_image(path: Path) -> bool:
    with contextlib.suppress(ImageFileError):
        check_image_file(path, 2**62)
        return True
    return False


def _is_video(path: Path, *, thorough: bool) -> bool:
    try:
        with path.open("rb") as file:
            begins = BEGINNINGS.match(file.read(1024)) is not None
    except OSError:
        return False
    if not begins and not thorough:
        return False
    try:
        import av
    except ImportError:
        return begins  # reading it raises an error that names the package
    try:
        with av.open(f"file:{path}") as container:
            return moving_pictures(container) is not None
    except (av.FFmpegError, OSError):
        return False
