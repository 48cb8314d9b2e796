"""A frame that was trained on is known again, however it is read."""

from dataclasses import replace

import cv2
import pytest

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder import folder_source
from fastscnn.export.pretrained import save_pretrained
from fastscnn.inference.loader import Checkpoint, open_checkpoint
from fastscnn.training import seen_frames as module
from fastscnn.utils.digests import digest_of
from fastscnn.utils.errors import RequestError
from helpers import FOLDER_CLASSES, trained_network, write_cityscapes, write_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two cities each of train and val; `traina` has two frames, `trainb`, `vala` and `valb` one."""
    return write_cityscapes(tmp_path_factory.mktemp("data") / "cityscapes", size=(32, 64))


def config(root, dataset="fine", **settings):
    """A data config as a checkpoint has it."""
    root = None if root is None else str(root)
    return {"dataset": dataset, "root": root, "crop_size": [32, 64], "batch_size": 1, "num_workers": 0} | settings


def opened(root, dataset="fine", **settings):
    return SegmentationData(dataset=dataset, root=root, crop_size=(32, 64), num_workers=0, **settings)


def folder_of(root, images, masks):
    """The data of a folder with splits of its own."""
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    source = folder_source(root, {"images": images, "masks": masks})
    return opened(root, "folder", source=source)


def checkpoint_of(own, source="own.ckpt", **config):
    return Checkpoint(source, {"data": own, **config}, {}, {}, None)


def seen_frames(own, data, split, source="own.ckpt"):
    """The names; None where nothing could be compared."""
    names, unknown = module.seen_frames(checkpoint_of(own, source), data, split)
    return None if unknown else names


def cities(names):
    return sorted(name.split("_")[0] for name in names)


@pytest.mark.parametrize(
    ("trained", "split", "seen"),
    [
        ({}, "train", ["traina", "traina", "trainb"]),
        ({}, "val", []),
        ({"train_splits": ["train", "val"]}, "val", ["vala", "valb"]),
        ({"held_out": "vala"}, "val", ["valb"]),
        ({"held_out": "traina"}, "train", ["trainb"]),
    ],
)
def test_what_was_trained_on_counts_not_what_is_called_train(root, trained, split, seen):
    assert cities(seen_frames(config(root, **trained), opened(root), split)) == seen


def test_files_of_another_place_and_name_are_known_by_their_content(root, tmp_path):
    own = config(root)
    for place, city in (("val", "traina"), ("train", "vala")):
        for number, file in enumerate(sorted((root / "leftImg8bit").rglob(f"{city}_*.png"))):
            (copied := tmp_path / f"images/{place}/{number}.png").parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())
            write_folder(tmp_path, [f"{place}/{number}"], images="unused")
    data = folder_of(tmp_path, "images/{split}/{name}", "masks/{split}/{name}")
    assert sorted(seen_frames(own, data, "val")) == sorted(frame.name for frame in data.frames("val"))
    assert seen_frames(own, data, "train") == []


def test_frames_of_cityscapes_are_known_by_their_names_where_they_were_compressed_anew(root, tmp_path):
    for file in root.rglob("*.png"):
        (copied := tmp_path / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(copied), cv2.imread(str(file), cv2.IMREAD_UNCHANGED), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    found = seen_frames(config(root, held_out="vala"), opened(tmp_path), "val")
    assert cities(found) == ["valb"]


def test_other_frames_of_the_same_names_are_none_that_were_trained_on(tmp_path):
    folders = [write_folder(tmp_path / name, ["train/0", "val/1"], seed=seed) for seed, name in enumerate("ab")]
    first, second = (folder_of(one, "images/{split}/{name}", "masks/{split}/{name}") for one in folders)
    own = config(folders[0], "folder", images="images/{split}/{name}", masks="masks/{split}/{name}")
    assert len(seen_frames(own, first, "train")) == 1
    assert seen_frames(own, second, "train") == []


def test_copy_of_cityscapes_without_the_suffix_of_its_names_is_known(root, tmp_path):
    for file in sorted((root / "leftImg8bit/train").rglob("*.png")):
        name = f"val/{file.stem.removesuffix('_leftImg8bit')}"
        (copied := tmp_path / f"images/{name}.png").parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(copied), cv2.imread(str(file)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        write_folder(tmp_path, [name], images="unused")
    data = folder_of(tmp_path, "images/{split}/{name}", "masks/{split}/{name}")
    assert len(seen_frames(config(root), data, "val")) == 3


def test_published_set_that_is_gone_is_looked_for_where_the_evaluated_one_is(root, tmp_path):
    for gone in (tmp_path / "gone", None):
        assert cities(seen_frames(config(gone), opened(root), "train")) == ["traina", "traina", "trainb"]
        assert seen_frames(config(gone), opened(root), "val") == []
        assert seen_frames(config(gone, "fine_coarse"), opened(root), "val") == [], "its fine frames are there"


def test_other_folder_is_not_taken_for_one_that_is_gone(tmp_path):
    root = write_folder(tmp_path / "b", ["train/0", "val/1"])
    patterns = {"images": "images/{split}/{name}", "masks": "masks/{split}/{name}"}
    data = folder_of(root, *patterns.values())
    assert seen_frames(config(tmp_path / "a", "folder", **patterns), data, "train") is None


def test_drawn_streets_are_known_by_their_pixels_alone(tmp_path):
    """Those of two seeds have the same names, and are read as Cityscapes too; no photograph is one of them."""
    drawn = {"size": [64, 128], "train": 2, "val": 1, "test": 0, "train_extra": 0}
    first, second = (opened(tmp_path / str(seed), "streets", streets=drawn | {"seed": seed}) for seed in (1, 2))
    for data in (first, second):
        data.prepare_data()
    assert [frame.name for frame in first.frames("train")] == [frame.name for frame in second.frames("train")]
    for dataset in ("streets", "fine"):
        own = config(tmp_path / "1", dataset, streets=drawn | {"seed": 1})
        assert len(seen_frames(own, first, "train")) == 2
        assert len(seen_frames(own, opened(tmp_path / "1"), "train")) == 2, "read as Cityscapes"
        assert seen_frames(own, second, "train") == []
        gone = own | {"root": str(tmp_path / "3")}
        assert seen_frames(gone, second, "train") is None
        assert seen_frames(gone, opened(write_cityscapes(tmp_path / "photos")), "train") == []


def test_what_is_not_at_hand_is_not_said_to_be_unseen(root, tmp_path):
    assert seen_frames(config(None, "camvid"), opened(root), "val") is None
    assert seen_frames({"dataset": "external", "module": {}}, opened(root), "val") is None


def test_links_are_followed_and_broken_ones_are_no_frames(root, tmp_path):
    for file in root.rglob("*.png"):
        (link := tmp_path / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    for kind, name in (("leftImg8bit", "other_leftImg8bit.png"), ("gtFine", "other_gtFine_labelIds.png")):
        file = next((tmp_path / kind / "val").rglob("vala*.png"))
        file.rename(file.with_name(name))
    assert len(seen_frames(config(root, train_splits=["train", "val"]), opened(tmp_path), "val")) == 2
    (tmp_path / "leftImg8bit/train/traina/broken_leftImg8bit.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "gtFine/train/traina/broken_gtFine_labelIds.png").symlink_to(tmp_path / "nowhere")
    assert seen_frames(config(tmp_path), opened(root), "val") == []


def test_weights_that_a_training_began_with_are_asked_too(root, tmp_path, monkeypatch):
    """A chain of three, whose last is gone; and a circle."""
    other = config(write_cityscapes(tmp_path / "other", seed=3))
    chain = {
        "second.ckpt": checkpoint_of(
            config(root, train_splits=["train", "val"]), "second.ckpt", init={"checkpoint": "third.ckpt"}
        ),
        "circle.ckpt": checkpoint_of(other, "circle.ckpt", init={"checkpoint": "circle.ckpt"}),
    }

    def opens(source, *, trust):
        if source not in chain:
            raise RequestError("it is gone")
        return chain[source]

    monkeypatch.setattr(module, "open_checkpoint", opens)
    first = checkpoint_of(
        other | {"dataset": "streets", "streets": {}}, "first.ckpt", init={"checkpoint": "second.ckpt"}
    )
    names, unknown = module.seen_frames(first, opened(root), "val")
    assert cities(names) == ["vala", "valb"]
    assert unknown == ["those of third.ckpt"]
    assert module.seen_frames(chain["circle.ckpt"], opened(root), "train")[1] == []


def test_splits_that_a_run_drew_are_read_from_its_folder(tmp_path):
    """The frames of `val` here are those of `train` in the run's lists."""
    root = write_folder(tmp_path / "photos", [f"{number}" for number in range(4)])
    run = tmp_path / "run"
    (run / "lists").mkdir(parents=True)
    for split, names in (("train", "01"), ("val", "23"), ("test", "")):
        (run / "lists" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    lists = tmp_path / "others"
    lists.mkdir()
    for split, names in (("train", "02"), ("val", "13"), ("test", "")):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    data = opened(root, "folder", source=folder_source(root, {"lists": str(lists)}))
    assert seen_frames(config(root, "folder"), data, "val", run / "checkpoints" / "best.ckpt") == ["1"]


def test_export_says_what_its_training_began_with_and_one_that_does_not_is_unknown(root, tmp_path):
    network = trained_network()
    for start, kept in (
        ("streets", "streets"),
        ("/home/me/runs/best.ckpt", "best.ckpt"),
        ("runs/best.ckpt", "best.ckpt"),
    ):
        init = {"checkpoint": start, "sha256": "0" * 64}
        save_pretrained(tmp_path / "net", replace(network, config={**network.config, "init": init}))
        assert open_checkpoint(tmp_path / "net").config["init"] == {"checkpoint": kept, "sha256": "0" * 64}
    save_pretrained(tmp_path / "net", network)
    found = open_checkpoint(tmp_path / "net")
    assert found.config["init"] is None
    own = {key: value for key, value in found.config.items() if key != "init"} | {"data": config(root)}
    assert module.seen_frames(replace(found, config=own | {"init": None}), opened(root), "val") == ([], [])
    assert "began with" in module.seen_frames(replace(found, config=own), opened(root), "val")[1][0]


def test_start_that_was_replaced_is_compared_and_said_to_be_unknown(root, tmp_path):
    save_pretrained(tmp_path / "net", trained_network())
    right = digest_of(tmp_path / "net/model.safetensors")
    for digest, unknown in ((right, 0), (None, 0), ("0" * 64, 1)):
        init = {"checkpoint": str(tmp_path / "net"), "sha256": digest}
        trained = checkpoint_of(config(root), init=init)
        places = [place for found, place in module._trainings(trained, None) if found is None]
        assert places == [str(tmp_path / "net")] * unknown
