"""One prediction: images, folders, patterns and videos to labels and pictures of them."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastscnn.errors import RequestError
from fastscnn.inference import video
from fastscnn.inference.draw import drawn
from fastscnn.inference.media import MARK, Source, find_sources, read_photo, write_png, write_whole
from fastscnn.inference.pipeline import AHEAD, ahead, overlapped
from fastscnn.inference.segmenter import Segmenter

Picture = npt.NDArray[np.uint8]
KINDS = ("labels", "color", "overlay", "side_by_side")
NOTE = "predict.json"
"""What made the predictions of a folder; a second call compares itself with it."""
SAY_EVERY = 10.0
"""Seconds between two lines where there is no terminal for a bar."""


@dataclass
class Outcome:
    """How a prediction went.

    Attributes:
        done: Inputs that were predicted now.
        there: Inputs that were there from before.
        failed: Input to the reason why it failed.
    """

    done: int = 0
    there: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What is to be written, and where.

    Attributes:
        output: The folder.
        write: Kinds of pictures; empty: labels and overlay of an image, overlay of a video.
        label_values: `train_ids`, or `file_values` as the data set's label files hold them.
        opacity: Share of the colours in an overlay.
    """

    output: Path
    write: tuple[str, ...] = ()
    label_values: str = "train_ids"
    opacity: float = 0.5

    def kinds(self, source: Source) -> tuple[str, ...]:
        """What is written of one input."""
        return self.write or (("overlay",) if source.is_video else ("labels", "overlay"))

    def target(self, source: Source, kind: str) -> Path:
        """Where one kind goes; the labels of a video go into a folder, a PNG a frame."""
        if not source.is_video:
            return self.output / f"{source.name}_{kind}.png"
        if kind == "labels":
            return self.output / f"{source.name}_labels"
        suffix = source.path.suffix.lower() if source.path.suffix.lower() in (".mp4", ".m4v", ".mov") else ".mkv"
        return self.output / f"{source.name}_{kind}{suffix}"

    def is_done(self, source: Source) -> bool:
        """Whether everything of an input is there."""
        return all(self.target(source, kind).exists() for kind in self.kinds(source))


def predict(settings: Mapping[str, Any]) -> Outcome:
    """Carry out the plain config of `conf/predict.yaml`; called again, it goes on with what is missing.

    Raises:
        RequestError: The checkpoint, the input or the output is not what it must be.
    """
    output = Path(settings["output"])
    request = Request(output, _kinds(settings["write"]), settings["label_values"], settings["opacity"])
    sources = find_sources(settings["input"], output)
    check_output(output)
    if any(source.is_video for source in sources):
        video.need_av()
    segmenter = load_segmenter(settings)
    note = {
        "checkpoint": str(settings["checkpoint"]),
        "digest": digest(Path(settings["checkpoint"])),
        "write": list(request.write) or "auto",
        "label_values": request.label_values,
        "opacity": request.opacity,
    }
    keep_note(output, note, segmenter, overwrite=settings["overwrite"])
    left = sources if settings["overwrite"] else [source for source in sources if not request.is_done(source)]
    outcome = Outcome(there=len(sources) - len(left))
    if outcome.there:
        print(f"{outcome.there} of {len(sources)} were there already.")
    images = [source for source in left if not source.is_video]
    try:
        with Meter(len(images), "images") as meter:
            for source, error in predict_images(segmenter, images, request):
                count(outcome, source, error)
                meter.advance()
        for source in left:
            if source.is_video:
                error = predict_video(segmenter, source, request)
                count(outcome, source, error)
    except KeyboardInterrupt as stop:
        stop.add_note(f"{outcome.done} done; the same command goes on with the other {len(left) - outcome.done}.")
        raise
    return outcome


def count(outcome: Outcome, source: Source, error: Exception | None) -> None:
    """Note how one input went."""
    if error is None:
        outcome.done += 1
    else:
        outcome.failed[str(source.path)] = str(error)


def predict_images(
    segmenter: Segmenter, images: Sequence[Source], request: Request
) -> Iterator[tuple[Source, Exception | None]]:
    """Predict images; yields each with its error or None."""

    def compute(source: Source, image: Picture) -> tuple[Picture, Picture]:
        return image, segmenter(image)

    def write(source: Source, pixels: tuple[Picture, Picture]) -> None:
        for kind in request.kinds(source):
            write_png(request.target(source, kind), picture_of(kind, *pixels, segmenter, request))

    return overlapped(images, lambda source: read_photo(source.path), compute, write)


def predict_video(segmenter: Segmenter, source: Source, request: Request) -> Exception | None:
    """Predict a video, each kind that is missing; returns the error where it is broken."""
    try:
        for kind in request.kinds(source):
            target = request.target(source, kind)
            with Meter(video.frames_of(source.path), f"frames of {source.path.name}") as meter:
                if kind == "labels":
                    _label_frames(segmenter, source, target, request, meter)
                else:
                    names = list(range(segmenter.classes.num_classes))
                    draw = partial(_drawn_frame, kind, segmenter, request, names, meter)
                    write_whole(target, partial(video.rewrite, source.path, draw=draw))
    except OSError as error:
        return error
    return None


def _drawn_frame(
    kind: str, segmenter: Segmenter, request: Request, names: Sequence[int], meter: "Meter", frame: Picture
) -> Picture:
    meter.advance()
    return drawn(kind, frame, segmenter(frame), segmenter.classes, request.opacity, names)


def _label_frames(segmenter: Segmenter, source: Source, target: Path, request: Request, meter: "Meter") -> None:
    """Write the labels of each frame; the folder has its own name once it is whole."""
    unfinished = target.with_name(f"{target.name}{MARK}")

    def compute(number: int, frame: Picture) -> Picture:
        meter.advance()
        return picture_of("labels", frame, segmenter(frame), segmenter, request)

    frames = ahead(video.read_frames(source.path), AHEAD)
    for _, error in overlapped(
        enumerate(frames, 1),
        lambda pair: pair[1],
        lambda pair, frame: compute(pair[0], frame),
        lambda pair, labels: write_png(unfinished / f"{pair[0]:06d}.png", labels),
    ):
        if error is not None:
            raise error
    unfinished.rename(target)


def picture_of(kind: str, image: Picture, labels: Picture, segmenter: Segmenter, request: Request) -> Picture:
    """What is written of one kind."""
    if kind != "labels":
        return drawn(kind, image, labels, segmenter.classes, request.opacity)
    return labels if request.label_values == "train_ids" else segmenter.classes.decode(labels)


def load_segmenter(settings: Mapping[str, Any]) -> Segmenter:
    """The segmenter that the settings ask for."""
    return Segmenter.from_checkpoint(
        settings["checkpoint"],
        backend=settings["backend"],
        device=settings["device"],
        precision=settings["precision"],
        threads=settings["threads"],
    )


def _kinds(write: str | Sequence[str]) -> tuple[str, ...]:
    if write == "auto":
        return ()
    chosen = [write] if isinstance(write, str) else list(write)
    for kind in chosen:
        if kind not in KINDS:
            raise RequestError(f"write={kind} is unknown: it is auto or some of {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in chosen)


def check_output(output: Path) -> None:
    """Check that predictions can go there.

    Raises:
        RequestError: It is a file.
    """
    if output.exists() and not output.is_dir():
        raise RequestError(f"output={output} is a file: name a folder.")


def keep_note(output: Path, note: Mapping[str, Any], segmenter: Segmenter, *, overwrite: bool) -> None:
    """Write what makes the predictions of a folder, or check that it is what made those that are there.

    Raises:
        RequestError: They are another checkpoint's, or were made with other settings.
    """
    path = output / NOTE
    if path.exists() and not overwrite:
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = {}
        for key, value in note.items():
            if key != "checkpoint" and before.get(key) != value:
                what = "another checkpoint" if key == "digest" else f"{key}={before.get(key)}"
                raise RequestError(
                    f"output={output} holds predictions of {what}: name another folder, or set overwrite=true to "
                    "make them anew."
                )
        return
    classes = segmenter.classes
    table = [
        {"train_id": train_id, "file_value": value, "name": name, "color": list(color)}
        for train_id, (value, name, color) in enumerate(
            zip(classes.file_values, classes.names, classes.colors, strict=True)
        )
    ]
    text = json.dumps({**note, "classes": table}, indent=2) + "\n"
    write_whole(path, lambda target: target.write_text(text))


def digest(path: Path) -> str:
    """SHA-256 of a checkpoint: of its file, or of all files of its folder."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(file.read_bytes())
    return total.hexdigest()


class Meter:
    """A bar with frames a second and time left; a line now and then where the output is no terminal."""

    def __init__(self, total: int | None, what: str) -> None:
        console = Console(stderr=True)
        self.total, self.what = total, what
        self.done, self.started, self.said = 0, time.perf_counter(), time.perf_counter()
        self.quiet = not console.is_terminal
        self.bar = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} a second, left"),
            TimeRemainingColumn(),
            console=console,
            disable=self.quiet or total == 0,
            transient=True,
        )
        self.task = self.bar.add_task(what, total=total, rate="-")

    def __enter__(self) -> "Meter":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        if self.done and error[0] is None:
            print(f"{self.done} {self.what}, {self._rate()} a second.")

    def advance(self) -> None:
        """One more is done."""
        self.done += 1
        self.bar.update(self.task, completed=self.done, rate=self._rate())
        if self.quiet and time.perf_counter() - self.said > SAY_EVERY:
            self.said = time.perf_counter()
            of = f" of {self.total}" if self.total else ""
            print(f"{self.done}{of} {self.what}, {self._rate()} a second", file=sys.stderr)

    def _rate(self) -> str:
        return f"{self.done / max(time.perf_counter() - self.started, 1e-9):.1f}"
