"""One prediction: images, folders, patterns and videos to labels and pictures of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.errors import RequestError
from fastscnn.inference import video
from fastscnn.inference.draw import drawn
from fastscnn.inference.media import Source, find_sources, read_photo, unfinished, write_png
from fastscnn.inference.note import Note, Outcome, check_output, digest, told_when_stopped
from fastscnn.inference.pipeline import overlapped
from fastscnn.inference.segmenter import Segmenter
from fastscnn.utils.progress import Progress

Picture = npt.NDArray[np.uint8]
KINDS = ("labels", "color", "overlay", "side_by_side")
FILMS = (".mp4", ".m4v", ".mov")
"""Kinds of video files that are written as they came; of all others an .mkv is made, which takes any sound."""


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

    def targets(self, source: Source) -> dict[str, Path]:
        """Where each kind of one input goes; the labels of a video go into a folder, a PNG a frame."""
        kinds = self.write or (("overlay",) if source.is_video else ("labels", "overlay"))
        return {kind: self.output / f"{source.name}_{kind}{_suffix(source, kind)}" for kind in kinds}

    def missing(self, source: Source, note: Note) -> dict[str, Path]:
        """Those of `targets` that are still to be made."""
        return {kind: path for kind, path in self.targets(source).items() if not note.has(path, source.path)}

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
    check_output(output)
    if any(source.is_video for source in sources):
        video.need_av()
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
    left = [source for source in sources if request.missing(source, note)]
    outcome = Outcome(there=len(sources) - len(left))
    if outcome.there:
        print(f"{outcome.there} of {len(sources)} were there already.")
    images = [source for source in left if not source.is_video]
    with told_when_stopped(outcome, len(left), overwrite=settings["overwrite"]):
        with Progress("predicting", len(images), "image") as progress:
            for source, error in predict_images(segmenter, images, request):
                outcome.count(source.path, error)
                progress.advance()
        if progress.done:
            print(progress.result())
        for source in left:
            if source.is_video:
                error = predict_video(segmenter, source, request, request.missing(source, note))
                outcome.count(source.path, error)
    return outcome


def predict_images(
    segmenter: Segmenter, images: Sequence[Source], request: Request
) -> Iterator[tuple[Source, Exception | None]]:
    """Predict images; yields each with its error or None."""

    def compute(source: Source, image: Picture) -> tuple[Picture, Picture]:
        return image, segmenter(image)

    def write(source: Source, pixels: tuple[Picture, Picture]) -> None:
        for kind, path in request.targets(source).items():
            write_png(path, request.picture(kind, *pixels, segmenter))

    return overlapped(images, lambda source: read_photo(source.path), compute, write)


def predict_video(
    segmenter: Segmenter, source: Source, request: Request, targets: Mapping[str, Path]
) -> Exception | None:
    """Predict a video once for all that is to be made of it; returns the error where it is broken."""
    every = range(segmenter.classes.num_classes)  # of the legend, which must not change its size
    try:
        with ExitStack() as stack:
            frames = video.frames_of(source.path)
            progress = stack.enter_context(Progress(source.path.name, frames, "frame"))

            def draw(frame: Picture) -> dict[str, Picture]:
                labels = segmenter(frame)
                progress.advance()
                return {kind: request.picture(kind, frame, labels, segmenter, every) for kind in targets}

            paths = {kind: stack.enter_context(unfinished(target)) for kind, target in targets.items()}
            video.rewrite(source.path, paths, draw)
        print(progress.result())
    except OSError as error:
        return error
    return None


def load_segmenter(settings: Mapping[str, Any]) -> Segmenter:
    """The segmenter that the settings ask for."""
    return Segmenter.from_checkpoint(
        str(settings["checkpoint"]),
        backend=settings["backend"],
        device=settings["device"],
        precision=settings["precision"],
        threads=settings["threads"],
    )


def made_by(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the labels: for the note."""
    checkpoint = str(settings["checkpoint"])
    return {"checkpoint": checkpoint, "digest": digest(Path(checkpoint)), "precision": settings["precision"]}


def _check_folder(note: Note, sources: Sequence[Source], request: Request) -> None:
    """Check that no file of another input folder has the name of one of these; note the folder.

    Raises:
        RequestError: One has; tells which.
    """
    folder = sources[0].folder
    if str(folder.resolve()) in note.folders:
        return
    for source in sources:
        for path in request.targets(source).values():
            if note.folders and note.has(path, source.path):
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
