"""One prediction: images, folders, patterns and videos to labels and pictures of them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.inference.hub import on_disk
from fastscnn.inference.segmenter import Segmenter
from fastscnn.predict import video
from fastscnn.predict.draw import drawn
from fastscnn.predict.inputs import Source, find_sources
from fastscnn.predict.manifest import Input, Note, Outcome, digest, told_when_stopped
from fastscnn.predict.pipeline import overlapped
from fastscnn.predict.video_reading import frames_of, need_av
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, replaced, write_png
from fastscnn.utils.images import read_rgb
from fastscnn.utils.names import file_name, portable
from fastscnn.utils.progress import Progress
from fastscnn.utils.shared_folder import writing_in
from fastscnn.utils.values import check_choice, check_number

Picture = npt.NDArray[np.uint8]
KINDS = ("labels", "color", "overlay", "side_by_side")
FILMS = (".mp4", ".m4v", ".mov")
"""Kinds of video files that are written as they came; of all others an .mkv is made, which takes nearly any sound."""


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

    def __post_init__(self) -> None:
        check_choice("label_values", self.label_values, ("train_ids", "file_values"))
        check_number("opacity", self.opacity, minimum=0, maximum=1)

    def targets(self, source: Source) -> dict[str, Path]:
        """Where each kind of one input goes; the labels of a video go into a folder, a PNG a frame."""
        kinds = self.write or (("overlay",) if source.is_video else ("labels", "overlay"))
        folder, name = (self.output / source.name).parent, Path(source.name).name
        return {kind: folder / file_name(name, f"_{kind}{_suffix(source, kind)}") for kind in kinds}

    def input(self, source: Source) -> Input:
        """One input and its targets, as the manifest records them."""
        return Input(source.name, source.path, [*self.targets(source).values()])

    def picture(
        self, kind: str, image: Picture, labels: Picture, segmenter: Segmenter, named: Sequence[int] | None = None
    ) -> Picture:
        """What is written of one kind; `named` are the classes of the legend, None: those that occur."""
        if kind != "labels":
            return drawn(kind, image, labels, segmenter.classes, self.opacity, named)
        return labels if self.label_values == "train_ids" else segmenter.classes.decode(labels)


def predict(settings: Mapping[str, Any]) -> Outcome:
    """Carry out the plain config of `conf/predict.yaml`; called again, it goes on with what is missing.

    Raises:
        RequestError: The checkpoint, the input or the output is not what it must be.
    """
    output = Path(str(settings["output"])).expanduser()
    request = Request(output, _kinds(settings["write"]), settings["label_values"], settings["opacity"])
    sources = find_sources(str(settings["input"]), output)
    check_writable(output, "output")
    if any(source.is_video for source in sources):
        need_av()
    segmenter = load_segmenter(settings)
    note = Note(
        output,
        {
            **made_by(settings),
            "write": list(request.write) or "auto",
            "label_values": request.label_values,
            "opacity": request.opacity,
        },
        segmenter.classes,
        overwrite=settings["overwrite"],
    )
    _check_folder(note, sources, request)
    left = [source for source in sources if note.missing(request.input(source))]
    note.begin(map(request.input, sources))
    outcome = Outcome(there=len(sources) - len(left))
    if outcome.there:
        print(f"{outcome.there} of {len(sources)} were there already.")
    with writing_in(output), told_when_stopped(outcome, len(left), overwrite=settings["overwrite"]):
        _predict(segmenter, left, request, note, outcome)
    return outcome


def _predict(segmenter: Segmenter, sources: Sequence[Source], request: Request, note: Note, outcome: Outcome) -> None:
    """Predict inputs, the images first, until the last one or until the disk is full."""
    images = [source for source in sources if not source.is_video]
    with Progress("predicting", len(images), "image") as progress:
        for source, error in predict_images(segmenter, images, request):
            progress.advance()
            if not outcome.count(source.path, error):
                return
    if progress.done:
        print(progress.result())
    for source in sources:
        if source.is_video:
            missing = note.missing(request.input(source))
            targets = {kind: path for kind, path in request.targets(source).items() if path in missing}
            if not outcome.count(source.path, predict_video(segmenter, source, request, targets)):
                return


def predict_images(
    segmenter: Segmenter, images: Sequence[Source], request: Request
) -> Iterator[tuple[Source, Exception | None]]:
    """Predict images; yields each with its error or None."""

    def compute(source: Source, image: Picture) -> tuple[Picture, Picture]:
        return image, segmenter(image)

    def write(source: Source, pixels: tuple[Picture, Picture]) -> None:
        for kind, path in request.targets(source).items():
            write_png(path, request.picture(kind, *pixels, segmenter))

    def read(source: Source) -> Picture:
        return read_rgb(source.path, upright=True, max_pixels=segmenter.max_pixels)

    return overlapped(images, read, compute, write)


def predict_video(
    segmenter: Segmenter, source: Source, request: Request, targets: Mapping[str, Path]
) -> Exception | None:
    """Predict a video once for all that is to be made of it; returns the error where it is broken."""
    every = range(segmenter.classes.num_classes)  # of the legend, which must not change its size
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(source.path.name, frames_of(source.path), "frame"))

            def draw(frame: Picture) -> dict[str, Picture]:
                labels = segmenter(frame)
                progress.advance()
                return {kind: request.picture(kind, frame, labels, segmenter, every) for kind in targets}

            paths = {kind: stack.enter_context(replaced(target)) for kind, target in targets.items()}
            reading = video.rewrite(source.path, paths, draw, segmenter.max_pixels)
        print(progress.result())
    except OSError as error:
        return error
    if reading.damaged:
        last = ", the last one too: the file may end early" if reading.ends_damaged else ""
        print(f"{source.path}: {reading.damaged:,} of {reading.count:,} frames are damaged{last}.", file=sys.stderr)
    return None


def load_segmenter(settings: Mapping[str, Any]) -> Segmenter:
    """The segmenter that the settings ask for."""
    return Segmenter.from_checkpoint(
        str(settings["checkpoint"]),
        backend=settings["backend"],
        device=settings["device"],
        precision=settings["precision"],
        threads=settings["threads"],
        max_pixels=settings["max_pixels"],
    )


def made_by(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the labels: for the manifest."""
    checkpoint = str(settings["checkpoint"])
    return {"checkpoint": checkpoint, "digest": digest(on_disk(checkpoint)), "precision": settings["precision"]}


def _check_folder(note: Note, sources: Sequence[Source], request: Request) -> None:
    """Check that no file of another input folder has the name of one of these; record the folder.

    Raises:
        RequestError: One has; tells which.
    """
    folder = sources[0].folder
    if portable(folder.resolve()) in note.folders:
        return
    for source in sources:
        for path in request.targets(source).values():
            if note.folders and note.holds(path):
                raise RequestError(
                    f"output={note.output} holds {path.name} of an input in {note.folders[-1]}, and that of "
                    f"{source.path} would be called the same: name another folder for the output."
                )
    note.add_folder(folder)


def _suffix(source: Source, kind: str) -> str:
    if not source.is_video:
        return ".png"
    suffix = source.path.suffix.lower()
    return "" if kind == video.FOLDER else suffix if suffix in FILMS else ".mkv"


def _kinds(write: Any) -> tuple[str, ...]:
    if write == "auto":
        return ()
    chosen = write if isinstance(write, list) else [write]
    for kind in chosen or ["[]"]:
        if kind not in KINDS:
            raise RequestError(f"write={kind} is unknown: it is auto or some of {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in chosen)
