"""A disk that becomes full while a real `train.py` runs: one sentence, a true record, and nothing half-written."""

import subprocess

import pytest

from fastscnn.runs.record import read_record
from fastscnn.utils.files import UNFINISHED
from helpers import FAST, command, full_disk

SETTINGS = ["data.batch_size=2", "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "data.store=off", *FAST]


@pytest.mark.parametrize("logger", ["csv", pytest.param("wandb", marks=pytest.mark.slow)])
def test_disk_that_becomes_full_while_a_run_trains(run, cityscapes, tmp_path, logger):
    with full_disk(tmp_path / "disk", mebibytes=15) as disk:  # a checkpoint has ten
        folder = tmp_path / "disk" / "run"
        call = ["data=fine", f"data.root={cityscapes}", f"logger={logger}", f"paths.run_dir={folder}", *SETTINGS]
        if disk.mounted:
            done = run("train.py", *call, cwd=tmp_path)
        else:
            started = command("train.py", *call, cwd=tmp_path)
            done = subprocess.run(**started, preexec_fn=disk.limit, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
        assert f"{folder / 'checkpoints'}" in sentence and "cannot be written (" in sentence
        record = read_record(folder)
        assert record["status"] == "failed"
        assert f"failed: {record['error']}" == sentence
        left = [path for path in folder.rglob("*") if path.is_file() and "wandb" not in path.parts]
        assert [path.name for path in left if path.name.startswith((UNFINISHED, ".run"))] == []
        assert [path.name for path in left if path.suffix == ".tmp" or not path.stat().st_size] == ["run.lock"]
