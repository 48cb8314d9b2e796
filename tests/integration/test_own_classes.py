"""An optimizer of a user's own, in a file beside where the command is called; and what a run's folder may not name."""

import pytest
import torch
from omegaconf import OmegaConf

from fastscnn.runs.record import read_record
from helpers import FAST

OWN = """
import torch


class AdamW(torch.optim.AdamW):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
"""
NAMED = "optimizer._target_=my.AdamW"


@pytest.fixture(scope="module")
def trained(run, cityscapes, tmp_path_factory):
    """A run with the class, and where it was called."""
    cwd = tmp_path_factory.mktemp("work")
    (cwd / "my.py").write_text(OWN)
    settings = ["data=fine", f"data.root={cityscapes}", "data.batch_size=2", "logger=csv", "paths.run_dir=run", *FAST]
    dropped = ["~optimizer.fused", "~optimizer.betas"]
    chosen = ["optimizer=adamw", NAMED, "scheduler=cosine", "scheduler.warmup_steps=2", "trainer.max_epochs=1"]
    refused = run("train.py", *settings, *chosen, cwd=cwd)
    assert refused.returncode == 2
    assert "~optimizer." in refused.stderr
    assert not (cwd / "run").exists()
    done = run("train.py", *settings, *chosen, *dropped, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "scheduler.warmup_steps=2 does not end within" in done.stdout + done.stderr
    return cwd


def test_class_of_a_users_own_trains_and_is_in_the_runs_name(trained):
    record = read_record(trained / "run")
    assert (record["choices"]["optimizer"], record["choices"]["scheduler"]) == ("adamw", "cosine")
    assert record["name"] == "fine-optimizer_adamw-scheduler_cosine"
    content = torch.load(trained / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = content["optimizer_states"]
    assert "exp_avg" in state["state"][0]


def test_run_goes_on_only_where_the_command_line_trusts_its_package(trained, run):
    refused = run("train.py", "resume=run", "trainer.max_epochs=2", cwd=trained)
    assert refused.returncode == 2
    assert NAMED in refused.stderr
    assert "trust=my" in refused.stderr
    done = run("train.py", "resume=run", "trainer.max_epochs=2", "trust=my", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "does not end within" not in done.stdout + done.stderr
    assert read_record(trained / "run")["metrics"]["last"]["epoch"] == 2


def test_folder_that_names_a_function_of_the_system_is_refused_and_nothing_is_called(trained, run):
    file = trained / "run" / ".hydra" / "config.yaml"
    before = file.read_text()
    config = OmegaConf.load(file)
    config.optimizer = {"_target_": "os.system", "command": f"touch {trained / 'called'}"}
    OmegaConf.save(config, file)
    done = run("train.py", "resume=run", "trainer.max_epochs=3", cwd=trained)
    file.write_text(before)
    assert done.returncode == 2
    assert "os.system" in done.stderr
    assert not (trained / "called").exists()
