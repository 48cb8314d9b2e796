"""A frame is its path below the split: same file names in several cities, from the data set to what is written."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.camvid import camvid_frames
from fastscnn.data.datasets.cityscapes import fine_coarse_frames, fine_frames, prediction_name
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frame_dataset import FrameDataset
from fastscnn.predict.cityscapes_archive import predict_archive
from fastscnn.reports.comparison import gallery
from fastscnn.reports.comparison.records import read_all
from fastscnn.training.pictures import DrawFrames
from fastscnn.training.saved_predictions import SavePredictions
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.errors import RequestError
from fastscnn.utils.names import file_name, shortest_names
from helpers import SEGMENTATION, block_labels, paint, predict_settings, refused, write_checkpoint, write_png, write_run

CITIES = ("aachen", "bochum", "ulm")


def write_numbered(root, split="train", label_type="gtFine", cities=CITIES, seed=0):
    """Four frames in each city, numbered anew in each: of one file name, and each with a label of its own."""
    for place, city in enumerate(cities):
        for number in range(4):
            ids = block_labels((16, 24), seed=100 * seed + 4 * place + number, block=4)
            write_png(root / f"leftImg8bit/{split}/{city}/{number:06d}_leftImg8bit.png", paint(ids))
            write_png(root / f"{label_type}/{split}/{city}/{number:06d}_{label_type}_labelIds.png", ids)
    return root


def test_frames_of_one_file_name_are_all_there_each_with_its_own_label(tmp_path):
    frames = fine_frames(write_numbered(tmp_path), "train")
    assert [frame.name for frame in frames] == [f"{city}/{number:06d}" for number in range(4) for city in CITIES]
    for sample, frame in zip(FrameDataset(frames, CITYSCAPES), frames, strict=True):
        ids = cv2.imread(str(frame.label), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(sample["image"].permute(1, 2, 0), paint(ids))
        assert np.array_equal(sample["label"], CITYSCAPES.encode(ids))


@pytest.mark.parametrize("store", ["off", "auto"])
def test_batches_hold_every_frame_of_every_city(tmp_path, store):
    root = write_numbered(write_numbered(tmp_path / "data"), "val", seed=1)
    settings = {"dataset": "fine", "root": root, "batch_size": 2, "num_workers": 1, "crop_size": [16, 24]}
    data = build_data({**settings, "store": "off" if store == "off" else tmp_path / "store"}, {"name": "none"})
    data.prepare_data()
    seen = {batch["name"][0]: batch["image"].numpy().tobytes() for batch in data.val_dataloader()}
    assert len(seen) == len(set(seen.values())) == 12
    assert data.source_counts("train") == {"fine": 12}


def test_a_city_without_labels_does_not_get_those_of_another(tmp_path):
    for split in ("train", "test"):
        write_numbered(tmp_path, split)
        for label in (tmp_path / f"gtFine/{split}/bochum").iterdir():
            label.unlink()
    with refused("data.root", "bochum/000000_leftImg8bit.png", "4 of 12"):
        fine_frames(tmp_path, "train")
    unlabelled = [frame.name for frame in fine_frames(tmp_path, "test") if frame.label is None]
    assert unlabelled == [f"bochum/{number:06d}" for number in range(4)]


def test_fine_and_coarse_frames_of_one_name_are_told_apart(tmp_path):
    write_numbered(tmp_path, cities=["ulm"])
    write_numbered(tmp_path, "train_extra", "gtCoarse", ["ulm", "wien"])
    names = [frame.name for frame in fine_coarse_frames(tmp_path, "train")]
    assert len(names) == 12
    assert names[:3] == ["train/ulm/000000", "train_extra/ulm/000000", "wien/000000"]


def test_two_photographs_of_one_name_are_refused_with_both(tmp_path):
    for name in ("a.jpg", "a.jpeg"):
        write_png(tmp_path / f"val/{name}", np.zeros((8, 8, 3), np.uint8))
    write_png(tmp_path / "valannot/a.png", np.zeros((8, 8), np.uint8))
    with refused("data.root", "val/a.jpeg", "val/a.jpg"):
        camvid_frames(tmp_path, "val")


def test_predictions_and_pictures_of_one_file_name_are_all_written(tmp_path):
    frames = fine_frames(write_numbered(tmp_path / "data"), "train")
    dataset = FrameDataset(frames, CITYSCAPES)
    module = Segmentation(SEGMENTATION, CITYSCAPES).eval()
    trainer = SimpleNamespace(test_dataloaders=SimpleNamespace(dataset=dataset))
    predictions, pictures = SavePredictions(tmp_path / "predictions", prediction_name), DrawFrames(12, CITYSCAPES)
    for index in range(len(dataset)):
        batch = dataset.batch([index])
        outputs = {"predictions": batch["label"].clamp(max=18)}
        for callback in (predictions, pictures):
            callback.on_test_batch_end(trainer, module, outputs, batch)
    pictures.save(tmp_path)
    assert len({(tmp_path / path).read_bytes() for path in pictures.paths}) == 12
    for frame, sample in zip(frames, dataset, strict=True):
        path = tmp_path / "predictions" / frame.image.parent.name / f"{frame.image.name[:6]}_pred_labelIds.png"
        written = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(written, CITYSCAPES.decode(sample["label"].clamp(max=18).numpy()))


def test_gallery_shows_frames_of_one_file_name(tmp_path):
    write_run(tmp_path, 0.5)
    folder = next(tmp_path.rglob("run.json")).parent
    for city in CITIES:
        write_png(folder / f"images/{city}/000000_epoch0003.png", np.zeros((4, 12, 3), np.uint8))
    rows = gallery.gallery([("run", read_all([tmp_path])[0][0])], [], 6)
    assert sorted(row.frame for row in rows) == [f"{city}/000000" for city in CITIES]


def test_archive_of_two_frames_of_one_name_is_refused_with_both(tmp_path):
    root = write_numbered(tmp_path / "data", "test", cities=["aachen", "ulm"])
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    given = {"split": "test", "format": "cityscapes", "data": {"root": str(root)}}
    settings = predict_settings(checkpoint, "", tmp_path / "out", **given)
    with pytest.raises(RequestError) as caught:
        predict_archive(settings)
    both = [str(root / f"leftImg8bit/test/{city}/000000_leftImg8bit.png") for city in ("aachen", "ulm")]
    assert all(file in str(caught.value) for file in (*both, "000000_pred_labelIds.png"))
    assert not (tmp_path / "out").exists()


def test_names_are_as_short_as_they_can_be():
    assert shortest_names([("s", "a", "x"), ("s", "b", "x"), ("s", "b", "y")]) == ["a/x", "b/x", "y"]
    assert shortest_names([("s", "a", "x"), ("t", "a", "x"), ("t", "b", "x")]) == ["s/a/x", "t/a/x", "b/x"]


def test_file_names_fit_and_stay_different():
    long = "ü" * 125 + "a"
    names = {file_name(long + letter, "_epoch0001.png") for letter in "bc"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 255 and name.endswith("_epoch0001.png") for name in names)
    assert file_name("short", ".u8") == "short.u8"
