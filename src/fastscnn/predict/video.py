"""Writing a video with every frame drawn anew; the times of the frames and the sound stay the same."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.predict.pipeline import QUEUE_SIZE, prefetched
from fastscnn.predict.video_reading import Reading, Shot, need_av, opened
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import WriteError, write_png
from fastscnn.utils.image_files import MAX_PIXELS

Picture = npt.NDArray[np.uint8]
CODECS = ("libx264", "libopenh264", "mpeg4")
"""Encoders; the first one that is installed is used. All players take their files."""
BT709, LIMITED = 1, 1
"""FFmpeg's numbers of the colour space and range that players expect: BT.709, 16 to 235."""
FOLDER = "labels"
"""The output that is written as a PNG for each frame, because an encoder would change it."""
MPEG4_TICKS = 60_000
"""Ticks of a second in mpeg4, which allows 65,535 at most."""


def rewrite(
    path: Path,
    targets: Mapping[str, Path],
    draw: Callable[[Picture], Mapping[str, Picture]],
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """Draw every frame of a video anew, into one or several outputs; sound is copied, and frames keep their time.

    Decoding, drawing and writing overlap.

    Args:
        path: The video.
        targets: What is written, by its name: a video of the kind that its suffix says, or for the name `labels` a
            folder with a PNG for each frame.
        draw: A frame, RGB uint8 [H, W, 3], to the picture for each name, RGB or grey; those of one name all of one
            size.
        max_pixels: The largest frame that is decoded.

    Returns:
        How many frames there were, and how many of them are damaged.

    Raises:
        OSError: It is no video, it is broken, or it ends before the end that its header promises.
        WriteError: A target cannot be written.
    """
    with ExitStack() as stack:
        source = stack.enter_context(opened(path, max_pixels))
        sinks: dict[str, _Film | _Folder] = {
            name: _Folder(target) if name == FOLDER else stack.enter_context(_Film(target, source))
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
        for event in stack.enter_context(closing(prefetched(source.events(), QUEUE_SIZE))):
            pictures = draw(event.picture) if isinstance(event, Shot) else {}
            under_way.append(writing.submit(write, event, pictures))
            while len(under_way) > QUEUE_SIZE:
                under_way.popleft().result()
        while under_way:
            under_way.popleft().result()
        for sink in sinks.values():
            sink.finish()
    return source


class _Film:
    """Encodes pictures and copies sound into a new video; used by one thread."""

    def __init__(self, path: Path, source: Reading) -> None:
        self.path = path
        self.source = source
        self.encoder: Any = None
        self.sounds: dict[Any, Any] = {}
        self.early: list[Any] = []  # the encoder needs the first picture's size before anything can be written
        with self._writing():
            self.container: Any = need_av().open(f"file:{path}", "w")

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(WriteError), self._writing():  # an earlier error was raised already
            self.container.close()

    def show(self, shot: Shot, picture: Picture) -> None:
        """Write a picture, in colours or grey, at its frame's time."""
        picture = _even(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2))
        with self._writing():
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
        if stream not in self.sounds:
            return
        packet.stream = self.sounds[stream]
        with self._writing():
            self.container.mux(packet)
        packet.stream = stream  # another film may take it as well

    def finish(self) -> None:
        """Write the frames that the encoder still holds, and the end of the file."""
        with self._writing():
            self.container.mux(self.encoder.encode())
            self.container.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        av = need_av()
        try:
            yield
        except av.FFmpegError as error:
            raise WriteError(error.errno, error.strerror or str(error), str(self.path)) from None

    def _start(self, picture: Picture) -> None:
        self.encoder = _encoder(self.container, self.source.pictures, picture)
        for stream in self.source.container.streams.audio:
            try:
                self.sounds[stream] = self.container.add_stream_from_template(stream)
            except ValueError:  # such as a Blu-ray's in an .mkv
                name = f"{stream.codec_context.name} sound"
                print(f"{self.path.suffix} files take no {name}: it is left out.", file=sys.stderr)
        for packet in self.early:
            self.sound(packet)
        self.early.clear()


class _Folder:
    """Writes each picture into a folder, as 000001.png and so on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def show(self, shot: Shot, picture: Picture) -> None:
        """Write a picture."""
        self.count += 1
        write_png(self.path / f"{self.count:06d}.png", picture)

    def sound(self, packet: Any) -> None:
        """Ignore sound."""

    def finish(self) -> None:
        """Do nothing: all files are written already."""


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
    raise RequestError(
        f"The installed package av has none of the encoders {', '.join(CODECS)}.", fix="Run pip install --upgrade av."
    )


def _even(picture: Picture) -> Picture:
    """Sides made even, as the encoders want them, by repeating the last row or column."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
