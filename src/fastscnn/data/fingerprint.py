"""A fingerprint of the data of a run, so that "the same data?" is a comparison of two strings."""

import hashlib
from pathlib import Path

from fastscnn.data.datamodules.build import TrainingData
from fastscnn.data.datasets.frames import Frame
from fastscnn.data.datasets.images import LabelledImage


def fingerprint(data: TrainingData, *splits: str) -> str:
    """`2,975+500 frames, 19 classes, 6f1c…`, with a digest over the classes' names and every frame of these splits.

    Of a frame it takes the name, the source and the sizes of its files in bytes; of ImageNet's million the name and the
    class. Where the data lies does not count.
    """
    names = list(data.classes.names)
    digest = hashlib.sha256("\0".join(names).encode(errors="surrogateescape"))
    counts = []
    for split in splits:
        frames = data.frames(split)
        counts.append(f"{len(frames):,}")
        for frame in frames:
            if isinstance(frame, Frame):
                about = [frame.name, frame.image.name, frame.source, _size(frame.image), _size(frame.label)]
            elif isinstance(frame, LabelledImage):
                about = [Path(frame.path).name, str(frame.target)]
            else:  # of a data module of the user's own only their number is known
                about = [str(frame)]
            digest.update("\0".join(map(str, (split, *about, "\n"))).encode(errors="surrogateescape"))
    return f"{'+'.join(counts)} frames, {len(names)} classes, {digest.hexdigest()[:16]}"


def _size(file: Path | None) -> str:
    try:
        return str(file.stat().st_size) if file else "no file"
    except OSError:
        return "missing"
