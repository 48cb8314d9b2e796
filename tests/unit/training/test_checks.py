"""What can be wrong with a training's data is found before anything is computed."""

import cv2
import numpy as np
import pytest

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.training.checks import check_data
from fastscnn.utils.errors import RequestError


def camvid(root, **counts):
    """A tiny CamVid with so many frames in each split."""
    for split, count in counts.items():
        for folder, shape in ((split, (8, 8, 3)), (f"{split}annot", (8, 8))):
            (root / folder).mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(root / folder / f"{number}.png"), np.zeros(shape, np.uint8))
    return SegmentationData(dataset="camvid", root=root, crop_size=(8, 8), batch_size=4)


@pytest.mark.parametrize(("val", "test", "split"), [(1, 2, "val"), (2, 1, "test"), (2, 2, None)])
def test_every_device_needs_a_frame_of_each_split_that_is_evaluated(tmp_path, val, test, split):
    data = camvid(tmp_path, train=4, val=val, test=test)
    plain = {"trainer": {"devices": 2, "accumulate_grad_batches": 1}, "data": {"evaluate_test": True, "batch_size": 4}}
    if split is None:
        check_data(plain, data)
        return
    sentence = rf"^trainer\.devices=2, but {split} has 1 frames, and each device needs one: set trainer\.devices=1"
    with pytest.raises(RequestError, match=sentence):
        check_data(plain, data)
