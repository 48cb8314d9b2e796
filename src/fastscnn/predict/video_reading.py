"""Reading the frames of a video, and checking that the file holds as many as its header says."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastscnn.predict.kind import moving_pictures
from fastscnn.utils.errors import RequestError
from fastscnn.utils.image_files import MAX_PIXELS, ImageFileError, check_regular_file

Picture = npt.NDArray[np.uint8]
FRAMES_OFF, SECONDS_OFF = 2, 0.1
"""Frames and seconds by which a whole video may be shorter than its header says: headers round."""

NO_LENGTH = 0x0200
"""FFmpeg's mark of a format whose times may jump: transport streams, the files of a DVD."""


def need_av() -> Any:
    """The package that reads and writes videos.

    Raises:
        RequestError: It is not installed.
    """
    try:
        import av
    except ImportError:
        raise RequestError(
            "Videos need the package av, which is not installed.", key="input", fix="Run pip install av."
        ) from None
    return av


WITH_PLACES = ("matroska,webm", "flv")
"""FFmpeg's names of the formats that promise no count of frames, and whose packets know where they lie in the file."""
BETWEEN_PACKETS = 64
"""Bytes of the format itself that may lie between two packets."""


class Shot(NamedTuple):
    """A frame and its time."""

    picture: Picture
    pts: int | None
    time_base: Fraction


class Hole:
    """Finds bytes within a file that belong to no packet, where pictures are missing too.

    A demuxer skips what it cannot read, without an error. A jump in time alone may be a camera's.

    Args:
        frame_seconds: The time from one picture to the next; 0 if it is unknown, so that nothing is found.
    """

    def __init__(self, frame_seconds: float) -> None:
        self._longest = 1.5 * frame_seconds
        self._place = self._end = -1
        self._lost = 0  # bytes since the last picture
        self._time: float | None = None

    def before(self, packet: Any, *, picture: bool) -> int:
        """The bytes that were lost before a packet, the next in the file; 0 if no picture is missing there."""
        if not packet.size or packet.pos is None:
            return 0
        if packet.pos == self._place:  # several packets of sound in one block
            self._end += packet.size
        else:
            if self._end >= 0:
                self._lost = max(self._lost, packet.pos - self._end)
            self._place, self._end = packet.pos, packet.pos + packet.size
        stamp = packet.pts if packet.dts is None else packet.dts
        if not picture or stamp is None:
            return 0
        time, before = float(stamp * packet.time_base), self._time
        self._time, lost, self._lost = time, self._lost, 0
        jumps = before is not None and 0 < self._longest < time - before
        return lost if jumps and lost > BETWEEN_PACKETS else 0


class Reading:
    """A video that is open for reading once, from its beginning to its end.

    Attributes:
        container: PyAV's container.
        pictures: Its stream of pictures.
        promised: Number of frames, as the header says itself or as its length and rate say; None where neither is
            there.
        count: Frames that were decoded so far.
        damaged: Those of them that the decoder calls damaged.
        ends_damaged: Whether the last frame is damaged, as where a file without a promise was cut off.
    """

    def __init__(self, container: Any, pictures: Any, max_pixels: int) -> None:
        self.container = container
        self.pictures = pictures
        self.max_pixels = max_pixels
        self.count = self.damaged = 0
        self._end = self._any_end = 0.0  # seconds at which the last picture ends; the last of anything
        self.ends_damaged = False
        self._seconds = _promised_end(container, pictures)
        rate = pictures.average_rate
        self.promised: int | None = pictures.frames or None
        if self.promised is None and container.duration and rate:
            self.promised = int(container.duration / 1e6 * rate + 0.5)
        self._frame_seconds = float(1 / rate) if rate else 0.0

    def events(self) -> Iterator[Any]:
        """Frames (`Shot`) and packets of sound, in the order in which they lie in the file.

        Raises:
            OSError: The video is broken, ends before what its header promises, or has a frame that is too large.
        """
        av = need_av()
        self.pictures.thread_type = "AUTO"
        sound = set(self.container.streams.audio)
        hole = Hole(self._frame_seconds) if self.container.format.name in WITH_PLACES else None
        try:
            for packet in self.container.demux():
                if hole and (lost := hole.before(packet, picture=packet.stream is self.pictures)):
                    raise OSError(
                        f"damaged after {self._found()}: {lost:,} bytes within the file are no frames; copy it again, "
                        "or encode what can be read (ffmpeg -i FILE NEW.mp4)"
                    )
                if packet.stream is self.pictures:
                    for frame in packet.decode():
                        yield self._shot(frame)
                    continue
                if packet.pts is not None:
                    self._any_end = max(self._any_end, _end(packet))
                if packet.dts is not None and packet.stream in sound:  # the last one only says that there are no more
                    yield packet
        except av.FFmpegError as error:
            raise OSError(f"broken after {self._found()}: {error.strerror or error}") from None
        self._check_end()

    def _shot(self, frame: Any) -> Shot:
        _check_size(frame.height, frame.width, self.max_pixels)
        self.count += 1
        self.ends_damaged = bool(frame.is_corrupt)
        self.damaged += self.ends_damaged
        if frame.pts is not None:
            self._end = max(self._end, _end(frame))
        return Shot(_upright(frame), frame.pts, frame.time_base)

    def _check_end(self) -> None:
        """Compare what was decoded with what the header promises; trust the count before the time.

        Raises:
            OSError: There is no frame, or the last ones are missing.
        """
        if self.count == 0:
            raise OSError("no frame in it")
        missing = self.pictures.frames - self.count if self.pictures.frames else None
        off = 0 if self.ends_damaged else FRAMES_OFF
        if missing is not None and missing <= off:
            return
        if self._seconds is None:
            whole = missing is None
        else:
            # What an edit list cuts off and what an AVI skips is in the count, and not in the time. Where there is no
            # count, the length may be that of the sound.
            reached = self._end if missing is not None else max(self._end, self._any_end)
            off_seconds = max((off + 0.5) * self._frame_seconds, SECONDS_OFF if off else 0.0)
            whole = reached >= self._seconds - off_seconds
        if not whole:
            raise OSError(f"it ends early, after {self._found()}: copy it again, or cut it to what can be read")

    def _found(self) -> str:
        return f"{self.count:,} of {self.promised:,} frames" if self.promised else f"{self.count:,} frames"


@contextmanager
def opened(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Reading]:
    """Open a video.

    Raises:
        OSError: It is no video, or its frames have more than `max_pixels` pixels.
    """
    av = need_av()
    try:
        check_regular_file(path)
    except ImageFileError as error:
        raise OSError(error.problem) from None
    try:
        container = av.open(f"file:{path}")  # without that word, FFmpeg takes `12:30.mp4` for an address
    except av.FFmpegError as error:
        raise OSError(f"no video: {error.strerror or error}") from None
    with container:
        pictures = moving_pictures(container)
        if pictures is None:
            raise OSError("no video: there are no moving pictures in it")
        _check_size(pictures.height, pictures.width, max_pixels)
        yield Reading(container, pictures, max_pixels)


def read_frames(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Picture]:
    """Frames of a video, upright; RGB, uint8 [H, W, 3].

    Raises:
        OSError: It is no video, it is broken or too large, or it ends early.
    """
    with opened(path, max_pixels) as reading:
        for event in reading.events():
            if isinstance(event, Shot):
                yield event.picture


def frames_of(path: Path) -> int | None:
    """Number of frames that a video promises; None where it promises none.

    Raises:
        OSError: It is no video.
    """
    with opened(path, 2**62) as reading:
        return reading.promised


def _promised_end(container: Any, pictures: Any) -> float | None:
    """The time at which the pictures end, as the header says; None where it does not.

    Of a transport stream and its kin there is none: what FFmpeg says of their length is the last time in the file.
    """
    if container.format.flags & NO_LENGTH:
        return None
    if container.format.name == "avi":  # its length is read from the file, its count from the header
        return float(pictures.frames / pictures.average_rate) if pictures.frames and pictures.average_rate else None
    if pictures.duration:
        return float(((pictures.start_time or 0) + pictures.duration) * pictures.time_base)
    lengths = [container.duration / 1e6] if container.duration else []
    if lengths and (own := _seconds(pictures.metadata.get("DURATION", ""))):  # Matroska's, where the sound is longer
        lengths.append(own)
    return min(lengths, default=None)


def _seconds(clock: str) -> float | None:
    """`01:02:03.5` in seconds."""
    try:
        hours, minutes, seconds = (float(part) for part in clock.split(":"))
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _end(packet_or_frame: Any) -> float:
    return float((packet_or_frame.pts + (packet_or_frame.duration or 0)) * packet_or_frame.time_base)


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise OSError(
            f"its frames are {height}x{width}, {height * width:,} pixels, and the limit is {max_pixels:,}: set "
            f"max_pixels={height * width} if they are meant to be that large"
        )


def _upright(frame: Any) -> Picture:
    """A frame as it is to be seen: a telephone films lying and says by how much to turn."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
