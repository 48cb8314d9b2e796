"""Video to video: every frame drawn anew, its time and everything beside the pictures left alone."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastscnn.errors import RequestError
from fastscnn.inference.pipeline import AHEAD, ahead

Picture = npt.NDArray[np.uint8]
CODECS = ("libx264", "libopenh264", "mpeg4")
"""Encoders, the first that there is; all of them play everywhere."""


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


def rewrite(path: Path, target: Path, draw: Callable[[Picture], Picture]) -> int:
    """Write a video with every frame drawn anew; the sound is copied as it is, and each frame keeps its time.

    Decoding, drawing and encoding overlap.

    Args:
        path: The video.
        target: The new one, of the kind that its suffix says.
        draw: A frame, RGB uint8 [H, W, 3], to its picture; all of one size.

    Returns:
        The number of frames.

    Raises:
        OSError: It is no video, it is broken, or it cannot be written.
    """
    av = need_av()
    count = 0
    try:
        with _opened(path) as source, av.open(str(target), "w") as sink:
            writer = _Writer(sink, source)
            with ThreadPoolExecutor(1) as encoding:
                under_way: deque[Future[None]] = deque()
                for event in ahead(_events(source), AHEAD):
                    if isinstance(event, _Shot):
                        event = event._replace(picture=_even(draw(event.picture)))
                        count += 1
                    under_way.append(encoding.submit(writer.write, event))
                    while len(under_way) > AHEAD:
                        under_way.popleft().result()
                for writing in under_way:
                    writing.result()
            if count == 0:
                raise OSError("no frame in it")
            writer.finish()
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


class _Writer:
    """Encodes pictures and copies sound into a new video; used by one thread."""

    def __init__(self, sink: Any, source: Any) -> None:
        self.sink = sink
        self.pictures = source.streams.video[0]
        self.sounds = {stream: sink.add_stream_from_template(stream) for stream in source.streams.audio}
        self.encoder: Any = None
        self.early: list[Any] = []  # a stream cannot be added once something is written

    def write(self, event: Any) -> None:
        """Write a frame or a packet of sound."""
        if not isinstance(event, _Shot):
            event.stream = self.sounds[event.stream]
            if self.encoder is None:
                self.early.append(event)
            else:
                self.sink.mux(event)
            return
        if self.encoder is None:
            self.encoder = _encoder(self.sink, self.pictures, event.picture)
            self.sink.mux(self.early)
        frame = need_av().VideoFrame.from_ndarray(event.picture, format="rgb24")
        frame.pts, frame.time_base = event.pts, event.time_base
        self.sink.mux(self.encoder.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self.sink.mux(self.encoder.encode())


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


def _encoder(sink: Any, pictures: Any, picture: Picture) -> Any:
    stream = sink.add_stream(_first_codec(), rate=pictures.average_rate or Fraction(25))
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = pictures.time_base
    if stream.codec_context.name == "libx264":
        stream.options = {"crf": "18", "preset": "veryfast"}
    else:
        stream.bit_rate = max(2_000_000, 4 * picture.shape[0] * picture.shape[1])
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
