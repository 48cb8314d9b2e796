"""Images with a class, from file to sample: reading and transforming."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from fastscnn.data.datasets.frame_dataset import frame_seed
from fastscnn.data.datasets.frames import DataError
from fastscnn.utils.images import MAX_PIXELS, ImageFileError, open_pil
from fastscnn.utils.values import check_number, check_range

Transform = Callable[[Image.Image], Any]
"""From a PIL image to uint8 [3, H, W], a tensor or an array; may draw from the global random generators."""


@dataclass(frozen=True)
class ImageClasses:
    """The classes of a set of images, sorted by folder name; the position in the tuple is the class index.

    Attributes:
        name: Name of the data set in messages.
        names: Folder names; ImageNet's are WordNet synsets, such as `n01440764`.
    """

    name: str
    names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.names)


class LabelledImage(NamedTuple):
    """An image file and the index of its class; the path is text, as there may be a million."""

    path: str
    target: int


class ImageDataset(Dataset[dict[str, Any]]):
    """Images as samples; a key is an index, or (epoch, index) as `EpochSampler` gives them.

    A sample holds `image` (uint8 [3, H, W], RGB), `target` (int), `index` (int), `name` and `source`. All draws of the
    transform come from (seed, epoch, index), so any number of workers and a resumed run see the same pixels.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        transform: Transform,
        source: str,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.images = images
        self.transform = transform
        self.source = source
        self.seed = seed
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        path = Path(self.images[index].path)
        image = read_rgb(path, self.max_pixels)
        with seeded(frame_seed(self.seed, epoch, index)):
            pixels = torch.as_tensor(self.transform(image)).contiguous()
        return {
            "image": pixels,
            "target": self.images[index].target,
            "index": index,
            "name": f"{path.parent.name}/{path.stem}",
            "source": self.source,
        }


def read_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image of any colour mode as RGB, as it is stored: published networks for ImageNet ignore EXIF data.

    Raises:
        DataError: The file is missing, is not a complete image, or has too many pixels.
    """
    try:
        with open_pil(path, max_pixels, setting="data.max_pixels") as image:
            return image.convert("RGB")
    except ImageFileError as error:
        raise DataError(f"{error.path} {error.found}", key=error.setting or "data.root", fix=error.fix) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as an image ({error}).", key="data.root", fix="Copy or download it again."
        ) from None


def train_transform(
    crop_size: Sequence[int],
    scale: Sequence[float] = (0.25, 1.0),
    flip: float = 0.5,
    color_jitter: float = 0.0,
    auto_augment: str | None = None,
) -> Transform:
    """Build timm's training transform: random resized crop, flip and, if asked for, changes of colour.

    Args:
        crop_size: Height and width of the result.
        scale: Smallest and largest share of the image's area that a crop takes.
        flip: Probability of a horizontal flip.
        color_jitter: Largest change of brightness, contrast and saturation, as a share.
        auto_augment: A policy in timm's words, such as `rand-m6-n2`.

    Raises:
        RequestError: A setting is out of its range.
    """
    check_range("augment.scale", scale, maximum=1)
    check_number("augment.flip", flip, minimum=0, maximum=1)
    check_number("augment.color_jitter", color_jitter, minimum=0)
    from timm.data.transforms_factory import create_transform  # slow to import, and segmentation does not need it

    transform: Transform = create_transform(
        (3, crop_size[0], crop_size[1]),
        is_training=True,
        use_prefetcher=True,  # uint8: normalised on the device
        scale=(scale[0], scale[1]),
        hflip=flip,
        color_jitter=color_jitter,
        auto_augment=auto_augment,
        interpolation="bilinear",
    )
    return transform


def eval_transform(crop_size: Sequence[int], crop_pct: float = 0.875) -> Transform:
    """Build timm's evaluation transform: resized so that the crop at the centre is `crop_pct` of the short side."""
    from timm.data.transforms_factory import create_transform

    transform: Transform = create_transform(
        (3, crop_size[0], crop_size[1]), use_prefetcher=True, interpolation="bilinear", crop_pct=crop_pct
    )
    return transform


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) inside this block, and restore them after it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
