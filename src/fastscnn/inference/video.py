"""Video to video: every frame drawn anew, its time and the sound left alone."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastscnn.errors import RequestError
from fastscnn.inference.media import write_png
from fastscnn.inference.pipeline import AHEAD, ahead

Picture = npt.NDArray[np.uint8]
CODECS = ("libx264", "libopenh264", "mpeg4")
"""Encoders, the first that there is; all of them play everywhere."""
BT709, LIMITED = 1, 1
"""The colours of a film, as FFmpeg numbers them: those that players expect, 16 to 235."""
FOLDER = "labels"
"""What is written as a PNG for each frame, because an encoder would change it."""
MPEG4_TICKS = 60_000
"""Steps of a second that mpeg4 can tell apart; it knows no more than 65,535."""


def need_av() -> Any:
    """The package that reads and writes videos.

    Raises:
        RequestError: It is not installed.
    """
    try:
        import av
    except ImportError:
        raise RequestError("Videos need the package av, which is not installed: pip install av.") from None
    return av


def frames_of(path: Path) -> int | None:
    """Number of frames of a video, as it says itself or as its length and rate say; None where neither is there.

    Raises:
        OSError: It is no video.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return int(stream.frames)
        if container.duration and stream.average_rate:
            return int(container.duration / 1e6 * stream.average_rate + 0.5)
        return None


def read_frames(path: Path) -> Iterator[Picture]:
    """Frames of a video, upright; RGB, uint8 [H, W, 3].

    Raises:
        OSError: It is no video, or it is broken.
    """
    av = need_av()
    with _opened(path) as container:
        try:
            for frame in container.decode(video=0):
                yield _upright(frame)
        except av.FFmpegError as error:
            raise OSError(f"broken: {error.strerror or error}") from None


def rewrite(path: Path, targets: Mapping[str, Path], draw: Callable[[Picture], Mapping[str, Picture]]) -> int:
    """Draw every frame of a video anew, once or in several ways; sound is copied as it is, and frames keep their time.

    Decoding, drawing and writing overlap.

    Args:
        path: The video.
        targets: What is written, by its name: a video of the kind that its suffix says, or for the name `labels` a
            folder with a PNG for each frame.
        draw: A frame, RGB uint8 [H, W, 3], to the picture for each name; those of one name all of one size.

    Returns:
        The number of frames.

    Raises:
        OSError: It is no video, it is broken, or it cannot be written.
    """
    av = need_av()
    count = 0
    try:
        with ExitStack() as stack:
            source = stack.enter_context(_opened(path))
            sinks: dict[str, _Film | _Folder] = {
                name: _Folder(target)
                if name == FOLDER
                else _Film(stack.enter_context(av.open(str(target), "w")), source)
                for name, target in targets.items()
            }

            def write(event: Any, pictures: Mapping[str, Picture]) -> None:
                for name, sink in sinks.items():
                    if pictures:
                        sink.show(event, pictures[name])
                    else:
                        sink.sound(event)

            writing = stack.enter_context(ThreadPoolExecutor(1))
            under_way: deque[Future[None]] = deque()
            for event in stack.enter_context(closing(ahead(_events(source), AHEAD))):
                pictures: Mapping[str, Picture] = {}
                if isinstance(event, _Shot):
                    pictures = draw(event.picture)
                    count += 1
                under_way.append(writing.submit(write, event, pictures))
                while len(under_way) > AHEAD:
                    under_way.popleft().result()
            while under_way:
                under_way.popleft().result()
            if count == 0:
                raise OSError("no frame in it")
            for sink in sinks.values():
                sink.finish()
    except av.FFmpegError as error:
        raise OSError(f"broken: {error.strerror or error}") from None
    return count


class _Shot(NamedTuple):
    """A frame and its time."""

    picture: Picture
    pts: int | None
    time_base: Fraction


def _events(source: Any) -> Iterator[Any]:
    """Frames (`_Shot`) and packets of sound, in the order in which they lie in the file."""
    pictures = source.streams.video[0]
    pictures.thread_type = "AUTO"
    for packet in source.demux([pictures, *source.streams.audio]):
        if packet.stream is not pictures:
            if packet.dts is not None:  # the last one only says that there are no more
                yield packet
            continue
        for frame in packet.decode():
            yield _Shot(_upright(frame), frame.pts, frame.time_base)


class _Film:
    """Encodes pictures and copies sound into a new video; used by one thread."""

    def __init__(self, container: Any, source: Any) -> None:
        self.container = container
        self.source = source
        self.encoder: Any = None
        self.sounds: dict[Any, Any] = {}
        self.early: list[Any] = []  # the encoder needs the first picture's size before anything can be written

    def show(self, shot: _Shot, picture: Picture) -> None:
        """Write a picture at its frame's time."""
        picture = _even(picture)
        if self.encoder is None:
            self._start(picture)
        frame = need_av().VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = shot.pts, shot.time_base
        self.container.mux(self.encoder.encode(frame))

    def sound(self, packet: Any) -> None:
        """Copy a packet of sound."""
        if self.encoder is None:
            self.early.append(packet)
            return
        stream = packet.stream
        packet.stream = self.sounds[stream]
        self.container.mux(packet)
        packet.stream = stream  # another film may take it as well

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self.container.mux(self.encoder.encode())

    def _start(self, picture: Picture) -> None:
        self.encoder = _encoder(self.container, self.source.streams.video[0], picture)
        for stream in self.source.streams.audio:
            self.sounds[stream] = self.container.add_stream_from_template(stream)
        for packet in self.early:
            self.sound(packet)
        self.early.clear()


class _Folder:
    """Writes each picture into a folder, as 000001.png and so on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def show(self, shot: _Shot, picture: Picture) -> None:
        """Write a picture."""
        self.count += 1
        write_png(self.path / f"{self.count:06d}.png", picture)

    def sound(self, packet: Any) -> None:
        """There is no sound in it."""

    def finish(self) -> None:
        """All is written."""


def _opened(path: Path) -> Any:
    av = need_av()
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise OSError(f"no video: {error.strerror or error}") from None
    if not container.streams.video:
        container.close()
        raise OSError("no video: there are no pictures in it")
    return container


def _encoder(container: Any, pictures: Any, picture: Picture) -> Any:
    stream = container.add_stream(_first_codec(), rate=pictures.average_rate or Fraction(25))
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = pictures.time_base
    context.colorspace = context.color_primaries = context.color_trc = BT709  # said, so that no player has to guess
    context.color_range = LIMITED
    if context.name == "libx264":
        stream.options = {"crf": "18", "preset": "veryfast"}
    else:
        stream.bit_rate = max(2_000_000, 4 * picture.shape[0] * picture.shape[1])
        if context.time_base.denominator > MPEG4_TICKS:
            context.time_base = Fraction(1, MPEG4_TICKS)
    return stream


def _first_codec() -> str:
    av = need_av()
    for name in CODECS:
        try:
            av.codec.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        return name
    raise RequestError(f"This build of av has none of the encoders {', '.join(CODECS)}: pip install --upgrade av.")


def _upright(frame: Any) -> Picture:
    """A frame as it is to be seen: a telephone films lying and says by how much to turn."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _even(picture: Picture) -> Picture:
    """Sides made even, as the encoders want them, by repeating the last row or column."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
