"""Run by test_batch_crop_cuda.py with TRITON_INTERPRET=1: the Triton program on the CPU, against torch's operations."""

import sys

import numpy as np
import quick_interpreter  # noqa: F401
import torch

from fastscnn.data.transforms.augment import PaperAugment
from fastscnn.data.transforms.batch_crop import CropDrawer, crop_batch, launch

FRAMES = [(45, 60), (64, 97)]
CASES = [
    ((32, 48), {}),
    ((60, 70), {"scale": (0.5, 0.7), "channel_shift": 255.0, "brightness": 1.0}),
    ((20, 31), {"scale": (1.5, 4.0), "flip": 1.0}),
    ((1, 1), {}),
]


def main():
    draw = np.random.default_rng(0)
    sizes = [height * width for height, width in FRAMES]
    pixels = torch.from_numpy(draw.integers(0, 256, 4 * sum(sizes), np.uint8))
    for crop, settings in CASES:
        drawer = CropDrawer(PaperAugment(**settings)(crop))
        drawn = [drawer.draw(seed, 4 * sizes[0] * (seed % 2), FRAMES[seed % 2]) for seed in range(4)]
        fields, places = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
        images, labels = crop_batch(pixels, fields, places, crop)
        found = torch.full((len(drawn), *crop, 3), 77, dtype=torch.uint8)
        marks = torch.full((len(drawn), *crop), 77, dtype=torch.uint8)
        launch(pixels, fields, places, found, marks)
        assert torch.equal(marks, labels), crop
        difference = (found.int() - images.permute(0, 2, 3, 1).int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3, crop


if __name__ == "__main__":
    sys.exit(main())
