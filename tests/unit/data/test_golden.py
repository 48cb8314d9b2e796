"""The promise that the drawn streets keep their pixels for a version, and the store its bytes: against committed files.

`python tests/unit/data/test_golden.py` writes them, which is right only together with a new `GENERATOR_VERSION` of the
streets or `VERSION` of the store.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frames import Frame
from fastscnn.data.store.store import VERSION, DecodedStore
from fastscnn.streets.writer import GENERATOR_VERSION, StreetsSpec, write_streets

GOLDEN = Path(__file__).parents[2] / "golden"
STREETS = GOLDEN / f"streets_v{GENERATOR_VERSION}"
STORED = GOLDEN / f"store_v{VERSION}.u8"
SPEC = StreetsSpec(size=(64, 128), train=1, val=1, test=0, train_extra=1, seed=0)
PICTURES = [
    "leftImg8bit/train/aldenmoor/aldenmoor_000000_000019_leftImg8bit.png",
    "leftImg8bit/val/lindhaven/lindhaven_000000_000019_leftImg8bit.png",
    "leftImg8bit/train_extra/quellbach/quellbach_000000_000019_leftImg8bit.png",
]
LABELS = [
    "gtFine/train/aldenmoor/aldenmoor_000000_000019_gtFine_labelIds.png",
    "gtFine/val/lindhaven/lindhaven_000000_000019_gtFine_labelIds.png",
    "gtCoarse/train_extra/quellbach/quellbach_000000_000019_gtCoarse_labelIds.png",
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "drawn"
    write_streets(root, SPEC, workers=1)
    return root


def pixels(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int)


@pytest.mark.parametrize("name", LABELS)
def test_the_labels_of_a_version_stay_equal(drawn, name):
    assert np.array_equal(pixels(drawn / name), pixels(STREETS / Path(name).name))


@pytest.mark.parametrize("name", PICTURES)
def test_the_colours_of_a_version_stay_within_one_level_on_any_processor(drawn, name):
    """OpenCV chooses its programs by the processor, and they round differently."""
    assert np.abs(pixels(drawn / name) - pixels(STREETS / Path(name).name)).max() <= 1


def stored(folder):
    """The file of the decoded store of one committed frame."""
    frame = Frame("frame", STREETS / Path(PICTURES[0]).name, STREETS / Path(LABELS[0]).name, "streets")
    store = DecodedStore(folder, STREETS, CITYSCAPES)
    store.build([frame])
    (file,) = store.folder.glob("*.u8")
    return file


def test_the_store_of_a_frame_stays_the_same_byte_for_byte(tmp_path):
    assert stored(tmp_path).read_bytes() == STORED.read_bytes()


def write():
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        write_streets(Path(place) / "drawn", SPEC, workers=1)
        STREETS.mkdir(parents=True, exist_ok=True)
        for name in (*PICTURES, *LABELS):
            shutil.copy(Path(place) / "drawn" / name, STREETS / Path(name).name)
        shutil.copy(stored(Path(place)), STORED)


if __name__ == "__main__":
    write()
