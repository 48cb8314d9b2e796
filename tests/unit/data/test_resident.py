"""Frames that lie on a device give the batches of the loader that reads them; here the CPU is that device."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastscnn.data.datamodules import resident
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.transforms.augment import PaperAugment
from helpers import write_cityscapes

CROP = (32, 64)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(48, 96), train=7, val=2)


@pytest.fixture
def on_cpu(monkeypatch):
    """The CPU is a device like any other."""
    monkeypatch.setattr(resident, "KINDS", ("cpu",))
    monkeypatch.setattr(resident, "PART", 3 * 48 * 96 * 4 + 1)


def make(root, tmp_path, epoch=0, done=0, **settings):
    defaults = {"dataset": "fine", "crop_size": CROP, "batch_size": 2, "num_workers": 0, "seed": 3}
    defaults |= {"augment": PaperAugment(), "store": tmp_path / "store"}
    data = SegmentationData(root=root, **defaults | settings)
    data.prepare_data()
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        is_global_zero=True,
        global_rank=0,
        world_size=1,
        num_devices=1,
        accumulate_grad_batches=1,
        current_epoch=epoch,
    )
    data.go_on(epoch, done)
    return data


def batches(data, epochs=(0,)):
    loader = data.train_dataloader()
    found = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        found += [data.on_after_batch_transfer(batch, 0) for batch in loader]
    return found


def lies(data):
    """The data set behind the loader."""
    return data.train_dataloader().dataset.dataset


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert set(one) == set(other)
        assert one["name"] == other["name"] and one["source"] == other["source"]
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["label"], other["label"])
        assert one["image"].stride() == other["image"].stride()
        assert (one["image"].int() - other["image"].int()).abs().max() <= 1


def test_batches_are_those_of_the_loader_that_reads(root, tmp_path, on_cpu):
    there = make(root, tmp_path)
    found = batches(there, (0, 1))
    assert isinstance(lies(there), resident.ResidentFrames)
    elsewhere = make(root, tmp_path, device="cpu")
    assert_same(found, batches(elsewhere, (0, 1)))
    assert not isinstance(lies(elsewhere), resident.ResidentFrames)


def test_a_run_that_goes_on_within_an_epoch_sees_the_rest_of_it(root, tmp_path, on_cpu):
    expected = batches(make(root, tmp_path, device="cpu"), (2,))
    assert_same(batches(make(root, tmp_path, epoch=2, done=1), (2,)), expected[1:])


def test_frames_are_brought_once(root, tmp_path, on_cpu):
    data = make(root, tmp_path)
    assert lies(data) is lies(data)


def test_what_cannot_be_cut_on_the_device_is_read_and_said_once(root, tmp_path, on_cpu, capsys):
    data = make(root, tmp_path, augment=PaperAugment(crop_first=False), device="gpu")
    expected = batches(make(root, tmp_path, augment=PaperAugment(crop_first=False), device="cpu"))
    data.train_dataloader()
    assert_same(batches(data), expected)
    assert capsys.readouterr().out.count("this augmentation has no form for it") == 1


@pytest.mark.parametrize(
    ("settings", "free", "reason"),
    [
        ({"store": "off"}, 2**40, "not in the store"),
        ({}, 100_000, "half of its free memory is 0.00 GB"),
    ],
)
def test_frames_that_do_not_fit_or_are_not_decoded_stay_where_they_are(
    root, tmp_path, on_cpu, monkeypatch, settings, free, reason
):
    monkeypatch.setattr(resident, "_free", lambda device: free)
    data = make(root, tmp_path, **settings)
    reader = data._reader("train")
    found = resident.why_not_resident(data.augment, data.frames("train"), reader, torch.device("cpu"))
    assert reason in found


def test_a_machine_without_a_gpu_reads_as_ever_and_says_nothing(root, tmp_path, capsys):
    data = make(root, tmp_path)
    assert_same(batches(data), batches(make(root, tmp_path, device="cpu")))
    assert not isinstance(lies(data), resident.ResidentFrames)
    assert "data.device" not in capsys.readouterr().out


def test_pixels_of_all_parts_lie_where_they_belong(root, tmp_path, on_cpu):
    data = make(root, tmp_path)
    frames = lies(data)
    whole = [part for frame in frames.frames for part in frames.read(frame)]
    assert np.array_equal(frames.pixels.numpy(), np.concatenate([part.ravel() for part in whole]))
