"""`python src/train.py debug=profile` as a user calls it."""

import json

import pytest

from fastscnn.runs.record import read_record
from helpers import FAST

PARTS = ("data", "forward", "loss", "backward", "optimizer", "logging")


def test_profile_tells_each_part_of_a_step_and_what_limits_and_leaves_no_checkpoint(run, cityscapes, tmp_path):
    done = run(
        "train.py",
        "debug=profile",
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "trainer.profile_steps=7",
        "paths.run_dir=run",
        *FAST,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [[cell for cell in line.split() if cell != "│"] for line in lines if "│" in line]
    shown = {row[0]: [float(cell) for cell in row[-3:]] for row in rows}
    assert list(shown) == [*PARTS, "step"]
    assert sum(shown[part][0] for part in PARTS) == pytest.approx(shown["step"][0], abs=0.5)
    assert sum(shown[part][1] for part in PARTS) == pytest.approx(100, abs=0.5)
    (sentence,) = (line for line in lines if " limits (" in line)
    saved = json.loads((tmp_path / "run" / "profile.json").read_text())
    assert saved["sentence"] == sentence
    assert f"{saved['limits']} limits" in sentence
    assert saved["steps"] == 7 - 7 // 4
    assert saved["images_per_second"] == pytest.approx(2000 / saved["step_ms"])
    assert read_record(tmp_path / "run")["status"] == "finished"
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not (tmp_path / "run" / "wandb").exists()
