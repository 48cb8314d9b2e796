"""Prediction of images, folders, patterns and videos: label files and pictures of the labels."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastscnn.inference.hub import on_disk
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.shipped import DEFAULT, described, shipped_folder
from fastscnn.predict import video
from fastscnn.predict.draw import drawn
from fastscnn.predict.inputs import Source, find_sources
from fastscnn.predict.manifest import Input, Manifest, Outcome, digest, progress_in_the_message
from fastscnn.predict.pipeline import Busy, overlapped
from fastscnn.predict.video_reading import frames_of, need_av
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, replaced, write_png
from fastscnn.utils.images import read_rgb
from fastscnn.utils.names import file_name, portable
from fastscnn.utils.progress import Progress, say
from fastscnn.utils.shared_folder import writing_in
from fastscnn.utils.values import check_choice, check_number, refused

Picture = npt.NDArray[np.uint8]
KINDS = ("labels", "color", "overlay", "side_by_side", "confidence")
FILMS = (".mp4", ".m4v", ".mov")
"""Video files that are written in their own format; all others become .mkv, which takes nearly any sound."""


class Predicted(NamedTuple):
    """What was found in an image.

    Attributes:
        image: RGB, uint8 [H, W, 3].
        labels: Train ids, uint8 [H, W].
        confidence: The probability of each label, float32 [H, W]; None where nothing needs it.
    """

    image: Picture
    labels: Picture
    confidence: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Request:
    """The pictures that a prediction writes.

    Attributes:
        output: The folder that they are written to.
        write: Kinds of pictures; empty: labels and overlay of an image, overlay of a video.
        label_values: `train_ids`, or `file_values` as the data set's label files hold them.
        opacity: Share of the colours in an overlay.
        unknown_below: Pixels whose label has a lower probability get the ignored value; None: none do.
    """

    output: Path
    write: tuple[str, ...] = ()
    label_values: str = "train_ids"
    opacity: float = 0.5
    unknown_below: float | None = None

    def __post_init__(self) -> None:
        check_choice("label_values", self.label_values, ("train_ids", "file_values"))
        check_number("opacity", self.opacity, minimum=0, maximum=1)
        if self.unknown_below is not None:
            check_number("unknown_below", self.unknown_below, minimum=0, maximum=1)

    @property
    def needs_confidence(self) -> bool:
        """Whether labels alone do not suffice."""
        return "confidence" in self.write or self.unknown_below is not None

    def targets(self, source: Source) -> dict[str, Path]:
        """The path of each kind of picture of an input; the labels of a video are a folder of PNGs."""
        kinds = self.write or (("overlay",) if source.is_video else ("labels", "overlay"))
        folder, name = (self.output / source.name).parent, Path(source.name).name
        return {kind: folder / file_name(name, f"_{kind}{_suffix(source, kind)}") for kind in kinds}

    def input(self, source: Source) -> Input:
        """One input and its targets, as the manifest records them."""
        return Input(source.name, source.path, [*self.targets(source).values()])

    def predicted(self, image: Picture, segmenter: Segmenter) -> Predicted:
        """An image with its labels and, where it is needed, the probability of each."""
        if not self.needs_confidence:
            return Predicted(image, segmenter(image))
        labels, confidence = segmenter.confidence(image)
        if self.unknown_below is not None:
            labels = segmenter.known(labels, confidence, self.unknown_below)
        return Predicted(image, labels, confidence)

    def picture(self, kind: str, found: Predicted, segmenter: Segmenter, named: Sequence[int] | None = None) -> Picture:
        """The picture of one kind; `named` are the classes of the legend, None for those that occur."""
        if kind == "confidence":
            assert found.confidence is not None
            return np.rint(255 * found.confidence).astype(np.uint8)
        labels = found.labels
        if kind != "labels":
            return drawn(kind, found.image, labels, segmenter.classes, self.opacity, named)
        return labels if self.label_values == "train_ids" else segmenter.classes.decode(labels)


def predict(settings: Mapping[str, Any]) -> Outcome:
    """Carry out the plain config of `conf/predict.yaml`; a second call predicts what is missing.

    Raises:
        RequestError: The checkpoint, the input or the output is not what it must be.
    """
    output = Path(str(settings["output"])).expanduser()
    chosen = {key: settings[key] for key in ("label_values", "opacity", "unknown_below")}
    request = Request(output, _kinds(settings["write"]), **chosen)
    sources = find_sources(str(settings["input"]), output)
    check_writable(output, "output")
    if any(source.is_video for source in sources):
        need_av()
    if settings["checkpoint"] is None:
        settings = {**settings, "checkpoint": str(shipped_folder(DEFAULT))}
        print(f"checkpoint is not set: predicting with {described(DEFAULT)}")
    segmenter = load_segmenter(settings)
    if request.needs_confidence:
        segmenter.check_probabilities()
    manifest = Manifest(
        output,
        {
            **made_by(settings, segmenter),
            "write": list(request.write) or "auto",
            **chosen,
        },
        segmenter.classes,
        overwrite=settings["overwrite"],
    )
    _check_folder(manifest, sources, request)
    left = [source for source in sources if manifest.missing(request.input(source))]
    manifest.begin(map(request.input, sources))
    outcome = Outcome(there=len(sources) - len(left))
    if outcome.there:
        print(f"{outcome.there} of {len(sources)} were there already.")
    with writing_in(output), progress_in_the_message(outcome, len(left), overwrite=settings["overwrite"]):
        _predict(segmenter, left, request, manifest, outcome)
    return outcome


def _predict(
    segmenter: Segmenter, sources: Sequence[Source], request: Request, manifest: Manifest, outcome: Outcome
) -> None:
    """Predict inputs, the images first, until the last one or until the disk is full."""
    images = [source for source in sources if not source.is_video]
    busy = Busy()
    with Progress("predicting", len(images), "image") as progress:
        for source, error in predict_images(segmenter, images, request, busy):
            progress.advance()
            if not outcome.count(source.path, error):
                return
    if progress.done:
        print(f"{progress.result()} with reading and writing, {busy.summary(progress.done, progress.seconds)}")
    for source in sources:
        if source.is_video:
            missing = manifest.missing(request.input(source))
            targets = {kind: path for kind, path in request.targets(source).items() if path in missing}
            if not outcome.count(source.path, predict_video(segmenter, source, request, targets)):
                return


def predict_images(
    segmenter: Segmenter, images: Sequence[Source], request: Request, busy: Busy | None = None
) -> Iterator[tuple[Source, Exception | None]]:
    """Predict images; yields each with its error or None, and counts in `busy` how long each stage is at work."""
    busy = busy or Busy()
    note = ShrunkNote(segmenter)

    def compute(source: Source, image: Picture) -> Predicted:
        note.look(source.path.name, image)
        return request.predicted(image, segmenter)

    def write(source: Source, found: Predicted) -> None:
        for kind, path in request.targets(source).items():
            write_png(path, request.picture(kind, found, segmenter))

    def read(source: Source) -> Picture:
        return read_rgb(source.path, upright=True, max_pixels=segmenter.max_pixels)

    stages = busy.timed("reading", read), busy.timed("network", compute), busy.timed("writing", write)
    return overlapped(images, *stages)


def predict_video(
    segmenter: Segmenter, source: Source, request: Request, targets: Mapping[str, Path]
) -> Exception | None:
    """Predict a video once for all of its outputs; returns the error if it is broken."""
    every = range(segmenter.classes.num_classes)  # of the legend, which must not change its size
    note = ShrunkNote(segmenter)
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(source.path.name, frames_of(source.path), "frame"))

            def draw(frame: Picture) -> dict[str, Picture]:
                note.look(source.path.name, frame)
                found = request.predicted(frame, segmenter)
                progress.advance()
                return {kind: request.picture(kind, found, segmenter, every) for kind in targets}

            paths = {kind: stack.enter_context(replaced(target)) for kind, target in targets.items()}
            reading = video.rewrite(source.path, paths, draw, segmenter.max_pixels)
        print(progress.result())
    except OSError as error:
        return error
    if reading.damaged:
        last = ", the last one too: the file may end early" if reading.ends_damaged else ""
        print(f"{source.path}: {reading.damaged:,} of {reading.count:,} frames are damaged{last}.", file=sys.stderr)
    return None


class ShrunkNote:
    """Says of the first image that the network sees smaller than it is."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.said = False

    def look(self, name: str, image: Picture) -> None:
        """Look at an image before it is predicted; `name` is that of its file."""
        height, width = image.shape[:2]
        seen = self.segmenter.seen_size((height, width))
        if self.said or seen == (height, width):
            return
        self.said = True
        say(
            f"{name} has {width}x{height} pixels, and the network sees it at {seen[1]}x{seen[0]}, as "
            f"everything longer than {self.segmenter.longest_side} pixels; labels have the size of the image. "
            "longest_side=N sets another limit, longest_side=null none."
        )


def load_segmenter(settings: Mapping[str, Any]) -> Segmenter:
    """The segmenter that the settings ask for."""
    return Segmenter.from_checkpoint(
        str(settings["checkpoint"]),
        backend=settings["backend"],
        device=settings["device"],
        precision=settings["precision"],
        threads=settings["threads"],
        max_pixels=settings["max_pixels"],
        longest_side=settings["longest_side"],
        trust=settings["trust"],
    )


def made_by(settings: Mapping[str, Any], segmenter: Segmenter) -> dict[str, Any]:
    """The settings that decide the labels, for the manifest."""
    checkpoint = str(settings["checkpoint"])
    others = {"precision": settings["precision"], "longest_side": segmenter.longest_side}
    others |= {"multiple": segmenter.multiple} if segmenter.multiple > 1 else {}
    return {"checkpoint": checkpoint, "digest": digest(on_disk(checkpoint)), **others}


def _check_folder(manifest: Manifest, sources: Sequence[Source], request: Request) -> None:
    """Check that no file of another input folder has the name of one of these; record the folder.

    Raises:
        RequestError: One has; names both.
    """
    folder = sources[0].folder
    if portable(folder.resolve()) in manifest.folders:
        return
    for source in sources:
        for path in request.targets(source).values():
            if manifest.folders and manifest.holds(path):
                raise RequestError(
                    f"output={manifest.output} holds {path.name} of an input in {manifest.folders[-1]}, and that of "
                    f"{source.path} would have the same name.",
                    key="output",
                    fix="Name another folder.",
                )
    manifest.add_folder(folder)


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
            raise refused("write", write, f"auto or a list of some of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in chosen)
