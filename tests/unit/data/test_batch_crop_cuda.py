"""The Triton program of a batch's crops: in its interpreter on any machine that has Triton, and as it is on a GPU."""

import numpy as np
import pytest
import torch

from fastscnn.data.transforms.augment import PaperAugment
from fastscnn.data.transforms.batch_crop import CropDrawer, crop_batch
from warm import run_program

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@pytest.mark.parametrize(
    ("script", "variables"), [("interpreted_crops.py", {"TRITON_INTERPRET": "1"}), ("compiled_crops.py", {})]
)
def test_the_program_without_a_gpu(script, variables):
    run_program(script, **variables)


@on_gpu
@pytest.mark.parametrize("crop", [(480, 640), (200, 300), (700, 1100)])
def test_pixels_of_the_gpu_are_those_of_the_cpu(crop):
    frame = (360, 480)
    drawer = CropDrawer(PaperAugment(scale=(0.5, 4.0))(crop))
    size = 4 * frame[0] * frame[1]
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, 3 * size, np.uint8))
    drawn = [drawer.draw(seed, seed % 3 * size, frame) for seed in range(12)]
    fields, places = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    images, labels = crop_batch(pixels, fields, places, crop)
    found, marks = crop_batch(pixels.cuda(), fields.cuda(), places.cuda(), crop)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(marks.cpu(), labels)
    difference = (found.cpu().int() - images.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.01
