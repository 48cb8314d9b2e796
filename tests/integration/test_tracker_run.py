"""What happens to W&B's service while a real `train.py` runs is said, and changes nothing else."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from helpers import FAST


def service_of(pid):
    """The process number of W&B's service that a process has started, once it has."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name.startswith("wandb-core") and int(rest.split()[1]) == pid:
            return int(path.parent.name)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("what", [signal.SIGSTOP, signal.SIGKILL])
def test_run_whose_wandb_service_freezes_or_dies_is_finished_and_says_what_was_not_sent(
    start, what, cityscapes, tmp_path
):
    settings = ["data=fine", f"data.root={cityscapes}", "data.batch_size=2", "trainer.max_epochs=3", "pictures=1"]
    process = start("train.py", *settings, "trainer.log_every_n_steps=1", "paths.run_dir=run", *FAST, cwd=tmp_path)
    while not list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb")) or not service_of(process.pid):
        assert process.poll() is None, process.communicate(timeout=60)[1]
        time.sleep(0.05)
    os.kill(service_of(process.pid), what)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert "Traceback" not in errors
    (last,) = [line for line in errors.splitlines() if "did not arrive" in line]
    assert last.startswith("W&B: ") and "run/metrics.csv holds all of it" in last
    assert output.strip().splitlines()[-1] == "The run's folder: run"
