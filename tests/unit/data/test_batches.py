"""Batches as they leave the workers: the frames' own pixels in one shared buffer of uint8."""

import numpy as np
import pytest
import torch

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frame_dataset import FrameDataset
from fastscnn.data.datasets.frames import Frame
from fastscnn.data.transforms.augment import PaperAugment
from helpers import refused, write_cityscapes

SIZE = (32, 64)


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path, size=SIZE, train=7, val=2)


def data(root, **settings):
    made = SegmentationData(
        dataset="fine", root=root, crop_size=SIZE, **{"batch_size": 3, "augment": PaperAugment()} | settings
    )
    made.setup("fit")
    return made


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_each_frames_sample_in_one_buffer(root, workers):
    loader = data(root, num_workers=workers).train_dataloader()
    loader.sampler.set_epoch(1)
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        assert (batch["image"].dtype, batch["label"].dtype) == (torch.uint8, torch.uint8)
        assert batch["image"].shape == (3, 3, *SIZE)
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert batch["image"].is_shared() == batch["label"].is_shared() == (workers > 0)
        for place, index in enumerate(batch["index"].tolist()):
            sample = loader.dataset[1, index]
            assert torch.equal(batch["image"][place], sample["image"])
            assert torch.equal(batch["label"][place], sample["label"])
            assert batch["name"][place] == sample["name"]
            assert batch["source"][place] == "fine"


def test_whole_frames_come_one_by_one(root):
    batches = list(data(root, num_workers=1).val_dataloader())
    assert [batch["image"].shape for batch in batches] == [(1, 3, *SIZE)] * 2


def pixels(*sizes, labelled=True):
    """A data set of frames in memory."""
    frames = [Frame(f"frame{i}", None, None, "drawn") for i in range(len(sizes))]

    def read(frame):
        size = sizes[frames.index(frame)]
        return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8) if labelled else None

    return FrameDataset(frames, CITYSCAPES, read=read)


def test_frames_of_different_sizes_in_one_batch_are_named():
    with refused("data.crop_size", "frame0", "frame2"):
        pixels((4, 6), (4, 6), (6, 4)).batch([0, 1, 2])
    assert pixels((4, 6), (6, 4)).batch([1])["image"].shape == (1, 3, 6, 4)


def test_frames_without_labels_have_none_in_the_batch():
    assert "label" not in pixels((4, 6), (4, 6), labelled=False).batch([0, 1])
