"""benchmarks/camvid_gap.py: test frames by whether their drive was trained on, and the table of what came out."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastscnn.data.datasets.camvid import camvid_frames

ROOT = Path(__file__).resolve().parents[3]
FRAMES = {"train": ["A_1", "B_1"], "val": ["A_2"], "test": ["A_3", "C_1", "C_2"]}


@pytest.fixture
def gap(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("recipe", "publish_weights", "camvid_gap"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import camvid_gap

    return camvid_gap


@pytest.fixture
def camvid(tmp_path):
    root = tmp_path / "camvid"
    for split, names in FRAMES.items():
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
            for name in names:
                Image.fromarray(np.zeros((2, 3), np.uint8)).save(root / folder / f"{name}.png")
    return root


def test_each_group_of_frames_is_evaluated_once_as_the_test_split_of_a_folder(gap, camvid, tmp_path, monkeypatch):
    evaluated = []

    def evaluate(checkpoint, data, root, split, *settings):
        names = [frame.name for frame in camvid_frames(root, split)]
        evaluated.append((str(checkpoint), data, names))
        score = 1 / len(evaluated)
        return {"metrics": {"test/miou": score, "test/iou/pole": score / 2}, "calibration": {"ece": 0.1}}

    monkeypatch.setattr(gap, "evaluate", evaluate)
    output = tmp_path / "gap.json"
    gap.main(Namespace(root=camvid, checkpoint="camvid", output=output))
    assert evaluated == [
        ("camvid", "camvid", ["A_1", "A_2", "B_1"]),
        ("camvid", "camvid", ["A_3"]),
        ("camvid", "camvid", ["C_1", "C_2"]),
    ]
    groups = json.loads(output.read_text())["groups"]
    assert [found["frames"] for found in groups.values()] == [3, 1, 2]
    assert list(groups)[1:] == ["A, other minutes of a drive trained on", "C, a drive never seen"]
    rows = output.with_suffix(".md").read_text().splitlines()
    assert "| mIoU | 100.0 | 50.0 | 33.3 |" in rows and "| pole | 50.0 | 25.0 | 16.7 |" in rows
