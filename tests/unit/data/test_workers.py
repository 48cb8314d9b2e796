"""The processes that read data: room for their batches is checked first, and their errors keep their own content."""

import multiprocessing
import os
import signal
from collections import namedtuple

import numpy as np
import pytest

from fastscnn.data.datamodules import shared_memory
from fastscnn.data.datamodules.build import build_data, build_image_data
from fastscnn.data.datasets.frames import DataError
from fastscnn.runs.record import RunRecord, recorded
from fastscnn.utils.errors import RequestError
from helpers import refused, write_cityscapes, write_png

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("data"), size=(16, 24), train=40, val=4)


def settings(root, **changes):
    plain = {"dataset": "fine", "root": root, "batch_size": 2, "num_workers": 2, "crop_size": [16, 24], "store": "off"}
    return plain | changes


def with_free(monkeypatch, free):
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: Usage(free, 0, free))


def check(root, devices=1, **changes):
    build_data(settings(root, **changes), {"name": "none"}, devices=devices).prepare_data()


def test_batches_that_do_not_fit_into_shared_memory_are_refused_before_training_with_both_fixes(root, monkeypatch):
    """Two workers read two batches each ahead, and the process that trains holds two."""
    needed = 6 * 2 * 16 * 24 * 4
    with_free(monkeypatch, needed)
    check(root)
    with_free(monkeypatch, needed - 1)
    with pytest.raises(DataError) as refused:
        check(root)
    text = str(refused.value)
    assert text.startswith("data.num_workers=2: up to 6 batches of 0.0 MB pass through /dev/shm, which has 0.0 MB free")
    assert "--shm-size=1g" in text
    assert "data.num_workers=0" in text
    check(root, num_workers=0)


def test_the_papers_batch_does_not_fit_into_what_docker_gives(root, monkeypatch):
    with_free(monkeypatch, 64 * 2**20)
    data = build_data(settings(root, batch_size=12, crop_size=[1024, 2048]), {"name": "none"})
    data.source_counts = lambda split: {"fine": 2975}
    with refused("data.num_workers", "6 batches of 100.7 MB", "67.1 MB free", fix="--shm-size=1g"):
        data.check_shared_memory("train", "val", training=True)


def test_no_more_batches_are_counted_than_there_are(root, monkeypatch):
    with_free(monkeypatch, 4 * 16 * 24 * 4)  # the four frames of val, one at a time
    build_data(settings(root, num_workers=8)).check_shared_memory("val")
    with_free(monkeypatch, 4 * 16 * 24 * 4 - 1)
    with refused("data.num_workers", "data.num_workers=8", "4 batches"):
        build_data(settings(root, num_workers=8)).check_shared_memory("val")


def test_every_device_has_its_own_batches(root, monkeypatch):
    with_free(monkeypatch, 2 * 6 * 2 * 16 * 24 * 4 - 1)
    check(root)
    with refused("data.num_workers", "12 batches"):
        check(root, devices=2, batch_size=4)


def test_images_with_one_class_each_are_counted_too(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_png(tmp_path / name / "0.png", np.zeros((16, 24, 3), np.uint8))
    plain = {"root": tmp_path, "crop_size": [8, 8], "crop_pct": 1.0, "batch_size": 1, "num_workers": 1}
    with_free(monkeypatch, 2 * 8 * 8 * 3 - 1)
    with refused("data.num_workers", "data.num_workers=1", "2 batches"):
        build_image_data(plain).check_shared_memory("val")


def test_a_system_without_that_folder_is_not_asked(root, monkeypatch):
    monkeypatch.setattr(shared_memory, "FOLDER", root / "none")
    assert shared_memory.free_shared_memory() is None
    check(root)


class Picky(Exception):
    """One that cannot be built of a text alone, as torch would."""

    def __init__(self, file, line):
        super().__init__(f"{file}, line {line}")


def disk_error(*_):
    raise OSError(5, "Input/output error", "/data/a.png")


def decode_error(*_):
    return b"\xff".decode()


def picky_error(*_):
    raise Picky("a.png", 3)


def memory_error(*_):
    raise MemoryError


def several_lines(*_):
    raise ValueError("the first line\nValueErrors have more") from KeyError("cause")


def wrong_request(*_):
    raise RequestError("data.root=x: RequestError: is wrong: set it.")


def wrong_data(*_):
    raise DataError("a.png is not a complete image.", key="data.root", fix="Copy it again.")


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def bus_error(*_):
    os.kill(os.getpid(), signal.SIGBUS)


def left(*_):
    os._exit(3)


def record_of(tmp_path, root, read, workers=1):
    """What stands in a run's record when reading fails, and the error."""
    data = build_data(settings(root, num_workers=workers), {"name": "none"})
    loader = data.whole_frames("val")
    loader.dataset.dataset.read = read
    record = RunRecord.create(tmp_path / f"run{workers}", run_id="x", name="x", choices={}, seed=0)
    with pytest.raises(Exception) as error, recorded(record):
        list(loader)
    assert not multiprocessing.active_children()  # the other workers are ended too, while the error is held
    return record.data["error"], error.value


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (disk_error, "OSError: [Errno 5] Input/output error: '/data/a.png'"),
        (memory_error, "MemoryError"),
        (decode_error, "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (several_lines, "ValueError: the first line"),
        (wrong_request, "RequestError: data.root=x: RequestError: is wrong: set it."),
        (wrong_data, "DataError: a.png is not a complete image. Copy it again."),
    ],
)
def test_a_workers_error_is_recorded_as_it_would_be_without_workers(tmp_path, root, read, reason):
    without, first = record_of(tmp_path, root, read, workers=0)
    recorded_reason, error = record_of(tmp_path, root, read)
    assert recorded_reason == without == reason
    assert type(error) is type(first)
    assert (str(error), vars(error)) == (str(first), vars(first))


def test_an_error_that_cannot_be_pickled_keeps_its_name_and_its_text(tmp_path, root):
    assert record_of(tmp_path, root, picky_error)[0] == "RuntimeError: Picky: a.png, line 3"


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (killed, "was ended by SIGKILL, which is what a system without free memory does"),
        (bus_error, "was ended by SIGBUS, which a full /dev/shm"),
        (left, "ended with code 3"),
    ],
)
def test_a_worker_that_is_gone_is_recorded_with_what_ended_it(tmp_path, root, read, reason):
    found = record_of(tmp_path, root, read)[0]
    known = "DataLoader worker (pid " in found  # torch's own handler was the first to see it
    assert reason in found or (known and {killed: "Killed", bus_error: "Bus error"}.get(read, "?") in found)


def test_batches_come_as_from_a_dataloader_and_workers_stay_for_the_next_epoch(root):
    loader = build_data(settings(root), {"name": "none"}).whole_frames("val")
    seen = []
    for _ in range(2):
        iterator = iter(loader)
        assert len(iterator) == 4
        seen.append([batch["name"][0] for batch in iterator])
        pids = [worker.pid for worker in loader._iterator._workers]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
    assert pids == [worker.pid for worker in loader._iterator._workers]
