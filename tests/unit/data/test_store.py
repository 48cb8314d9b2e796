"""The decoded store: the files' own pixels, decoded once, and everything noticed that is no longer so."""

import multiprocessing
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from torch.utils.data import DataLoader

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES
from fastscnn.data.datasets.frame_dataset import FrameDataset
from fastscnn.data.datasets.frames import DataError, Frame
from fastscnn.data.datasets.sources import frames_for
from fastscnn.data.store import files as store_files
from fastscnn.data.store import stored_frames
from fastscnn.data.store.index import NAME
from fastscnn.data.store.store import DecodedStore, StoreUnusable
from fastscnn.data.transforms.augment import PaperAugment
from fastscnn.utils import progress_display as progress
from helpers import block_labels, paint, refused, write_cityscapes, write_png

FORK = multiprocessing.get_context("fork")
AUGMENT = {"name": "paper", "scale": [0.5, 2.0]}


@pytest.fixture
def root(tmp_path) -> Path:
    return write_cityscapes(tmp_path / "cs", size=(24, 40), train=4, val=2, test=1, train_extra=2)


@pytest.fixture
def store(tmp_path, root) -> DecodedStore:
    return DecodedStore(tmp_path / "store", root, CITYSCAPES)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the frames that are decoded from now on."""
    names, read = [], store_files.read_frame

    def noted(frame, *how):
        names.append(frame.name)
        return read(frame, *how)

    monkeypatch.setattr(store_files, "read_frame", noted)
    return names


def again(store: DecodedStore) -> DecodedStore:
    """The same store, as another process finds it."""
    return DecodedStore(store.folder.parent, store.root, store.classes)


def frames_of(root: Path, split: str = "train", dataset: str = "fine") -> list[Frame]:
    return frames_for(dataset, root, split)


def file_of(store: DecodedStore, frame: Frame) -> Path:
    (path,) = store.folder.glob(f"{frame.image.stem}-*.u8")
    return path


def assert_as_on_disk(store: DecodedStore, frames: list[Frame]) -> None:
    """Compare with the files, read by another library and labelled by the official table."""
    read = again(store).reader(frames)
    assert read is not None
    for frame in frames:
        image, label = read(frame)
        assert np.array_equal(image, np.asarray(PIL.Image.open(frame.image)))
        if frame.label is None:
            assert label is None
        else:
            ids = np.asarray(PIL.Image.open(frame.label))
            expected = np.vectorize(lambda value: id2label[value].trainId % 256)(ids)
            assert np.array_equal(label, expected)
            assert label.dtype == image.dtype == np.uint8


def test_store_holds_the_pixels_and_train_ids_of_frames_of_any_size_with_and_without_labels(root, store):
    write_png(frames_of(root)[1].image, paint(block_labels((37, 51), seed=5)))
    write_png(frames_of(root)[1].label, block_labels((37, 51), seed=5))
    frames = [*frames_of(root), *frames_of(root, "val"), *frames_of(root, "test")]
    assert again(store).reader(frames) is None
    store.build(frames)
    assert_as_on_disk(store, frames)


def test_what_is_decoded_is_not_decoded_again_nor_said_again(root, store, decoded, capsys):
    store.build(frames_of(root))
    assert len(decoded) == 4
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Decoding 4 frames into {store.folder}, once (0.00 GB of the ")
    again(store).build(frames_of(root))
    store.build(frames_of(root))
    assert len(decoded) == 4
    assert capsys.readouterr().out == ""


def test_data_options_of_one_root_share_their_frames(root, store, decoded):
    store.build(frames_of(root))
    decoded.clear()
    joined = frames_of(root, dataset="fine_coarse")
    again(store).build(joined)
    assert sorted(decoded) == [frame.name for frame in joined if frame.source == "coarse"]
    decoded.clear()
    again(store).build(frames_of(root))
    assert_as_on_disk(store, joined)
    assert decoded == [], "what one option does not read stays for the other"


def test_root_is_the_same_however_it_is_written(root, store, monkeypatch, decoded):
    store.build(frames_of(root))
    decoded.clear()
    monkeypatch.chdir(root.parent)
    relative = DecodedStore(Path("store"), Path("cs"), CITYSCAPES)
    relative.build(frames_of(Path("cs")))
    assert decoded == []


@pytest.mark.parametrize("changed", ["image", "label"])
def test_only_the_frame_whose_file_changed_is_decoded_again(root, store, decoded, changed):
    frames = frames_of(root)
    store.build(frames)
    decoded.clear()
    ids = block_labels((24, 40), seed=77)
    write_png(getattr(frames[2], changed), ids if changed == "label" else paint(ids))
    assert again(store).reader(frames) is None
    again(store).build(frames)
    assert decoded == [frames[2].name]
    assert_as_on_disk(store, frames)


def test_added_frames_are_decoded_and_removed_ones_are_dropped(root, store, decoded):
    frames = frames_of(root)
    store.build(frames)
    decoded.clear()
    stored = file_of(store, frames[0])
    for path in (frames[0].image, frames[0].label):
        path.rename(path.with_name(path.name.replace(frames[0].name, "traina_000009_000019")))
    now = frames_of(root)
    again(store).build(now)
    assert decoded == ["traina_000009_000019"]
    assert not stored.exists()
    assert_as_on_disk(store, now)
    now[-1].image.unlink()
    now[-1].label.unlink()
    again(store).build(frames_of(root))
    assert len(list(store.folder.glob("*.u8"))) == 3


def killed_after_two(store: DecodedStore, frames: list[Frame]) -> None:
    os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})  # one thread
    read, started = store_files.read_frame, []

    def stopped(frame, *how):
        started.append(frame)
        while len(started) == 3:
            if len((store.folder / NAME).read_text().splitlines()) == 1 + 2:
                os._exit(9)
        return read(frame, *how)

    store_files.read_frame = stopped
    store.build(frames)


def test_build_that_was_killed_goes_on(root, store, decoded):
    process = FORK.Process(target=killed_after_two, args=(store, frames_of(root)))
    process.start()
    process.join()
    assert process.exitcode == 9
    index = store.folder / NAME
    with index.open("a") as file:
        file.write(index.read_text().splitlines()[-1][:30])  # a line that the stop cut short
    left = [store.folder / f".unfinished-half{suffix}" for suffix in (".u8", ".index")]
    for path in left:
        path.touch()
    again(store).build(frames_of(root))
    assert len(decoded) == 2
    assert_as_on_disk(store, frames_of(root))
    assert not any(path.exists() for path in left)


def test_build_that_is_interrupted_stops_soon_and_goes_on(root, store, decoded, monkeypatch):
    def interrupted(frame, *how):
        raise KeyboardInterrupt

    frames = frames_of(root)
    store.build(frames[:2])
    decoded.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_files, "read_frame", interrupted)
        again(store).build(frames)
    again(store).build(frames)
    assert sorted(decoded) == [frame.name for frame in frames[2:]]


def build_slowly(store: DecodedStore, frames: list[Frame], log: Path, start) -> None:
    read = store_files.read_frame

    def slow(frame, *how):
        start.wait(60)
        with log.open("a") as file:
            file.write(f"{frame.name}\n")
        return read(frame, *how)

    store_files.read_frame = slow
    store.build(frames)


def test_two_runs_that_start_together_decode_once(root, store, tmp_path, capfd):
    frames, start, log = frames_of(root), FORK.Event(), tmp_path / "log"
    processes = [FORK.Process(target=build_slowly, args=(again(store), frames, log, start)) for _ in range(2)]
    for process in processes:
        process.start()
    said, started = "", time.monotonic()
    while "Waiting for another run" not in said and time.monotonic() - started < 50:
        time.sleep(0.02)
        said += capfd.readouterr().out
    start.set()
    for process in processes:
        process.join()
    assert "Waiting for another run that decodes frames into" in said
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(log.read_text().split()) == [frame.name for frame in frames]
    assert_as_on_disk(store, frames)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def one_bit(path: Path) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("harm", [cut_short, one_bit, Path.unlink])
def test_stored_frame_that_was_harmed_is_named_and_decoded_again(root, store, decoded, capsys, harm):
    frames = frames_of(root)
    store.build(frames)
    decoded.clear()
    capsys.readouterr()
    path = file_of(store, frames[1])
    harm(path)
    assert again(store).reader(frames) is None
    again(store).build(frames)
    assert decoded == [frames[1].name]
    assert str(path) in capsys.readouterr().out
    assert_as_on_disk(store, frames)


def test_index_that_was_tampered_with_is_not_believed(root, store, decoded):
    frames = frames_of(root)
    store.build(frames)
    decoded.clear()
    index = store.folder / NAME
    lines = index.read_text().splitlines()
    assert "24,40" in lines[1]
    index.write_text("\n".join([lines[0], lines[1].replace("24,40", "40,24"), *lines[2:]]))
    again(store).build(frames)
    assert len(decoded) == 1
    assert_as_on_disk(store, frames)
    index.write_bytes(b"\xff\x00 nonsense")
    again(store).build(frames)
    assert_as_on_disk(store, frames)


def test_touched_files_of_the_store_are_checked_and_not_decoded(root, store, decoded, capsys):
    frames = frames_of(root)
    store.build(frames)
    decoded.clear()
    capsys.readouterr()
    for path in store.folder.glob("*.u8"):
        path.touch()
    again(store).build(frames)
    assert decoded == []
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Checking 4 frames of {store.folder}")
    again(store).build(frames)
    assert capsys.readouterr().out == "", "it is known now"


@pytest.mark.parametrize("harm", [cut_short, one_bit, Path.unlink])
def test_harm_during_a_run_is_one_sentence(root, store, harm):
    frames = frames_of(root)
    store.build(frames)
    path = file_of(store, frames[1])
    dataset = FrameDataset(frames, CITYSCAPES, read=store.reader(frames))
    harm(path)
    with refused("data.store", path, fix="data.store=off") as error:
        list(DataLoader(dataset, batch_size=1))
    assert "\n" not in str(error.value)


def test_pixels_may_be_written_to_and_the_store_stays(root, store):
    frames = frames_of(root)
    store.build(frames)
    read = store.reader(frames)
    image, label = read(frames[0])
    image[:], label[:] = 0, 0
    assert_as_on_disk(store, frames)


def look_at_a_frame_that_becomes_shorter(read, frame: Frame, path: Path) -> None:
    image, label = read(frame)
    os.truncate(path, 10)
    assert image.any()
    assert label.any()
    os._exit(0)


def test_a_file_that_becomes_shorter_does_not_end_the_process_that_looks_at_its_pixels(root, store):
    """As it would if it was mapped: with SIGBUS."""
    frames = frames_of(root)
    store.build(frames)
    arguments = (store.reader(frames), frames[0], file_of(store, frames[0]))
    process = FORK.Process(target=look_at_a_frame_that_becomes_shorter, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == 0


@pytest.mark.parametrize("augmented", [False, True])
def test_a_file_that_becomes_shorter_while_it_is_read_is_one_sentence(root, store, monkeypatch, augmented):
    frames = frames_of(root)
    store.build(frames)
    path = file_of(store, frames[0])
    dataset = FrameDataset(
        frames, CITYSCAPES, PaperAugment()((20, 32)) if augmented else None, read=store.reader(frames)
    )

    def stamp(status, stored=store_files.stored_stamp):
        found = stored(status)
        os.truncate(path, 10)
        return found

    monkeypatch.setattr(store_files, "stored_stamp", stamp)
    with refused("data.store", "10 bytes", "3,840", fix="data.store=off"):
        dataset.batch([0])


def test_only_the_rows_that_a_crop_shows_are_read(root, store, monkeypatch):
    frames, read = frames_of(root), []
    store.build(frames)
    rows = store_files.read_rows
    monkeypatch.setattr(stored_frames, "read_rows", lambda *given: read.append(given[3:]) or rows(*given))
    augment = PaperAugment(scale=(2.0, 2.0))((12, 20))  # a window of 6x10 pixels of 24x40
    dataset = FrameDataset(frames, CITYSCAPES, augment, read=store.reader(frames))
    for epoch in range(5):
        dataset.batch([(epoch, index) for index in range(len(frames))])
    assert {stop - start for start, stop in read} == {6}
    assert len({start for start, _ in read}) > 5


def break_label(frame: Frame) -> None:
    write_png(frame.label, np.full((24, 40), 77, np.uint8))


def break_image(frame: Frame) -> None:
    frame.image.write_bytes(frame.image.read_bytes()[:60])


def other_size(frame: Frame) -> None:
    write_png(frame.label, block_labels((24, 41), seed=1))


@pytest.mark.parametrize("fault", [break_label, break_image, other_size])
def test_fault_in_a_file_is_told_as_if_the_file_was_read(root, store, fault):
    frames = frames_of(root)
    fault(frames[2])
    with pytest.raises(DataError) as read:
        FrameDataset(frames, CITYSCAPES)[2]
    with pytest.raises(DataError) as built:
        store.build(frames)
    assert str(built.value) == str(read.value)
    assert str(frames[2].label if fault is break_label else frames[2].image) in str(built.value)


def settings(root: Path, store, **others) -> dict:
    data = {"dataset": "fine", "root": str(root), "crop_size": [20, 32], "batch_size": 2, "num_workers": 0}
    return {**data, "store": str(store), "evaluate_test": False, **others}


def pixels_of(loader: DataLoader, epochs: int = 1) -> list[torch.Tensor]:
    seen = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            seen += [batch["image"].clone(), batch["label"].clone(), batch["index"].clone()]
    return seen


@pytest.mark.parametrize("workers", [0, 2])
def test_frame_scale_and_crop_give_the_same_pixels_with_and_without_the_store(root, tmp_path, workers):
    batches = {}
    for store in ("off", tmp_path / "store"):
        data = build_data(settings(root, store, num_workers=workers), AUGMENT, seed=3)
        data.prepare_data()
        batches[store] = [pixels_of(data.train_dataloader(), epochs=3), pixels_of(data.val_dataloader())]
    assert data.described("train", "val")["store"].startswith(str(tmp_path / "store"))
    for without, stored in zip(*batches.values(), strict=True):
        assert len(without) == len(stored) > 0
        assert all(map(torch.equal, without, stored))


def test_stored_frames_reach_workers_that_are_spawned(root, store):
    frames = frames_of(root)
    store.build(frames)
    dataset = FrameDataset(frames, CITYSCAPES, read=store.reader(frames))
    loader = DataLoader(dataset, batch_size=1, num_workers=1, multiprocessing_context="spawn")
    expected = [sample["image"] for sample in FrameDataset(frames, CITYSCAPES)]
    assert all(torch.equal(batch["image"][0], image) for batch, image in zip(loader, expected, strict=True))


def test_off_writes_nothing(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for off in ("off", False):
        data = build_data({**settings(root, "off"), "store": off}, AUGMENT)
        data.prepare_data()
        assert data.described("train")["store"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cs"]


def test_auto_is_below_the_working_directory_and_of_an_evaluation_only_what_is_there(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judging = build_data(settings(root, "auto"), None)
    judging.prepare_data()
    assert judging.described("val")["store"] is None
    assert not Path("data").exists()
    build_data(settings(root, "auto"), AUGMENT).prepare_data()
    judging = build_data(settings(root, "auto"), None)
    assert judging.described("val")["store"].startswith("data/store/cs-")
    assert judging.described("test")["store"] is None
    without = build_data(settings(root, "off"), None)
    assert all(map(torch.equal, pixels_of(judging.whole_frames("val")), pixels_of(without.whole_frames("val"))))


def test_test_frames_are_decoded_where_the_test_is_evaluated(root, tmp_path, decoded):
    (frame,) = (root / "leftImg8bit/test").rglob("*.png")
    label = root / "gtFine/test" / frame.parent.name / frame.name.replace("leftImg8bit", "gtFine_labelIds")
    write_png(label, block_labels((24, 40), seed=9))
    build_data(settings(root, tmp_path / "store", evaluate_test=True), AUGMENT).prepare_data()
    assert len(decoded) == 7


def free(monkeypatch, size: int) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 0, size)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def test_disk_that_is_too_small_is_refused_with_the_sizes(root, store, monkeypatch):
    needed = 4 * 24 * 40 * 4
    free(monkeypatch, 2**30 + needed - 1)
    with pytest.raises(StoreUnusable, match=r"1\.1 GB .*4 frames .*0\.0 GB .*1\.1"):
        store.build(frames_of(root))
    assert list(store.folder.glob("*.u8")) == []
    free(monkeypatch, 2**30 + needed)
    store.build(frames_of(root))
    free(monkeypatch, 0)
    again(store).build(frames_of(root))


@pytest.mark.parametrize("unusable", ["small", "file"])
def test_auto_reads_the_files_and_says_so_once_where_a_named_folder_is_refused(
    root, tmp_path, monkeypatch, capsys, unusable
):
    monkeypatch.chdir(tmp_path)
    if unusable == "small":
        free(monkeypatch, 10**6)
    else:
        Path("data").touch()
        Path("named").touch()
    data = build_data(settings(root, "auto"), AUGMENT)
    for _ in range(2):
        data.prepare_data()
    (line,) = capsys.readouterr().out.splitlines()
    assert "the files are read instead" in line
    assert len(list(data.train_dataloader())) == 2
    with refused("data.store", "data.store=named", fix="data.store=off") as error:
        build_data(settings(root, "named"), AUGMENT).prepare_data()
    assert "\n" not in str(error.value)


def test_disk_that_fills_up_is_left_as_it_was(root, store, monkeypatch):
    frames, full = frames_of(root), OSError(28, "No space left on device")

    def write(*args):
        raise full

    store.build(frames[:2])
    monkeypatch.setattr(
        Path, "replace", lambda self, target: write() if target.suffix == ".u8" else os.replace(self, target)
    )
    with pytest.raises(StoreUnusable, match=r"cannot be written \(No space left on device\)"):
        again(store).build(frames)
    assert {path.name for path in store.folder.iterdir()} == {
        NAME,
        ".lock",
        *(file_of(store, f).name for f in frames[:2]),
    }


def test_long_build_tells_how_far_it_is_in_lines(root, store, monkeypatch, capsys):
    seen = []

    def decode(*arguments):
        while "decoding: frame 0 of 4\n" not in "".join(seen):  # so long that there is a line
            seen.append(capsys.readouterr().out)
        time.sleep(0.02)  # the first line may come at once; the summary comes only after the time between two
        return store_files.write_frame(*arguments)

    monkeypatch.setattr("fastscnn.data.store.store.write_frame", decode)
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setenv(progress.VARIABLE, "0.02")
    store.build(frames_of(root))
    assert ("".join(seen) + capsys.readouterr().out).splitlines()[-1].startswith("decoding: 4 frames in ")


def test_file_names_and_roots_as_long_as_file_systems_take_are_stored(tmp_path):
    root = tmp_path / ("ö" * 125)
    names = ["ü" * 122 + letter + "x.png" for letter in "ab"]
    for seed, name in enumerate(names):
        write_png(root / "val" / name, paint(block_labels((8, 8), seed)))
        write_png(root / "valannot" / name, np.full((8, 8), seed, np.uint8))
    assert {len(name.encode()) for name in names} == {250}
    frames = frames_for("camvid", root, "val")
    store = DecodedStore(tmp_path / "store", root, CAMVID)
    store.build(frames)
    read = DecodedStore(tmp_path / "store", root, CAMVID).reader(frames)
    for seed, frame in enumerate(frames):
        image, label = read(frame)
        assert np.array_equal(image, paint(block_labels((8, 8), seed)))
        assert (label == seed).all()
