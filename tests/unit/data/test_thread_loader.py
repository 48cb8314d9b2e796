"""Threads that read the frames: the batches are those of worker processes and of a single thread."""

import numpy as np
import pytest
import torch

from fastscnn.data.datamodules import shared_memory, threads
from fastscnn.data.datamodules.build import build_data
from helpers import refused, write_cityscapes

STRONG = {"name": "strong", "scale": [0.5, 2.0]}
PAPER = {"name": "paper", "scale": [0.5, 2.0]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("data"), size=(48, 96), train=17, val=3)


@pytest.fixture(scope="module")
def store(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    data_of(root, folder).prepare_data()
    return folder


def data_of(root, store, augment=PAPER, **changes):
    plain = {"dataset": "fine", "root": root, "batch_size": 4, "num_workers": 2, "crop_size": [32, 64]}
    return build_data(plain | {"store": str(store)} | changes, augment)


def epoch(data, number=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return loader, list(loader)


@pytest.mark.parametrize("augment", [PAPER, STRONG])
def test_every_loader_gives_the_same_batches(root, store, augment):
    loaders = {
        "alone": data_of(root, store, augment, num_workers=0),
        "threads": data_of(root, store, augment, num_workers=3),
        "processes": data_of(root, store, augment, loader="processes"),
        "threads and files": data_of(root, "off", augment, loader="threads"),
    }
    for data in loaders.values():
        data.prepare_data()
    for number in (0, 1):
        found = {name: epoch(data, number) for name, data in loaders.items()}
        kinds = {name: isinstance(loader, threads.ThreadLoader) for name, (loader, _) in found.items()}
        assert kinds == {"alone": False, "threads": True, "processes": False, "threads and files": True}
        expected = found["alone"][1]
        assert len(expected) == 4
        for name, (_, batches) in found.items():
            assert len(batches) == len(expected), name
            for batch, same in zip(batches, expected, strict=True):
                assert batch.keys() == same.keys()
                assert (batch["name"], batch["source"]) == (same["name"], same["source"])
                assert all(torch.equal(batch[key], same[key]) for key in ("image", "label", "index")), name
                assert batch["image"].is_contiguous(memory_format=torch.channels_last)


def test_whole_frames_come_in_their_order(root, store):
    data = data_of(root, store)
    data.prepare_data()
    loader = data.val_dataloader()
    assert isinstance(loader, threads.ThreadLoader)
    assert [name for batch in loader for name in batch["name"]] == [frame.name for frame in data.frames("val")]


def test_a_run_that_goes_on_reads_what_is_left_of_its_epoch(root, store):
    data = data_of(root, store)
    data.prepare_data()
    _, whole = epoch(data, 1)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    loader.sampler.skip(1, 2 * 4)
    left = list(loader)
    assert [batch["name"] for batch in left] == [batch["name"] for batch in whole[2:]]
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(left, whole[2:], strict=True))


def test_a_damaged_frame_is_named_and_the_threads_end(root, tmp_path):
    data = data_of(root, tmp_path / "store")
    data.prepare_data()
    loader = data.train_dataloader()
    for victim in (tmp_path / "store").rglob("*.u8"):
        victim.write_bytes(victim.read_bytes()[:-1])
    with refused("data.store", ".u8"):
        list(loader)
    assert not any(one.name.startswith("data") for one in threads.threading.enumerate())


def test_an_epoch_that_is_left_early_leaves_no_thread(root, store):
    data = data_of(root, store)
    data.prepare_data()
    batches = iter(data.train_dataloader())
    next(batches)
    assert any(one.name.startswith("data") for one in threads.threading.enumerate())
    batches.close()
    assert not any(one.name.startswith("data") for one in threads.threading.enumerate())


def test_threads_need_no_shared_memory_and_processes_are_checked_where_the_store_has_no_room(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(shared_memory, "free_shared_memory", lambda: 0)
    data_of(root, tmp_path / "store").prepare_data()
    with refused("data.num_workers", "/dev/shm"):
        data_of(root, tmp_path / "store", loader="processes").prepare_data()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").touch()  # where the folder of data.store=auto would be
    with refused("data.num_workers", "/dev/shm"):
        data_of(root, "auto").prepare_data()


def test_another_word_is_refused(root):
    with refused("data.loader", "fork"):
        data_of(root, "off", loader="fork")


def test_a_thread_has_memory_of_its_own(root, store):
    data = data_of(root, store)
    data.prepare_data()
    dataset = data.train_dataloader().dataset
    one, other = threads.copied(dataset), threads.copied(dataset)
    first = one.arrays((0, 0))[0]
    seen = first.copy()
    other.arrays((0, 1))
    assert np.array_equal(first, seen)
    assert one.augment is not other.augment and one.frames is other.frames
