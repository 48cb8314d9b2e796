"""docs/own_code.md: every diff of the page is applied as it stands there, and its commands are run."""

import re
import shlex
import subprocess

import pytest
import torch
from omegaconf import OmegaConf

from fastscnn.runs.record import read_record
from helpers import FAST, REPO

PAGE = (REPO / "docs" / "own_code.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
TINY = [
    "data.streets={size:[32,64],train:8,val:2,test:1,train_extra:1}",
    "data.crop_size=[32,64]",
    "data.batch_size=4",
    "data.evaluate_test=false",
    "data.store=off",
    "trainer.max_epochs=4",
    *FAST,
]


def diffs(section):
    return re.findall(r"```diff\n(.*?)```", SECTIONS[section], re.DOTALL)


def arguments(section):
    """What the page's command gives to `train.py`."""
    (block,) = re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL)
    python, main, *rest = shlex.split(block)
    assert (python, main) == ("python", "src/train.py")
    return rest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a user's own, with all diffs of the page applied."""
    folder = tmp_path_factory.mktemp("own")
    for section in SECTIONS:
        for diff in diffs(section):
            subprocess.run(["git", "apply", "-"], input=diff, cwd=folder, text=True, check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def trained(run, folder):
    """A run with the loss, the optimizer, the schedule and the callback of the page."""
    chosen = dict.fromkeys(word for name in ("Loss", "Optimizer", "Schedule", "Callback") for word in arguments(name))
    done = run("train.py", *chosen, *TINY, "logger=csv", "paths.run_dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize("section", ["Loss", "Optimizer", "Schedule", "Callback", "Data"])
def test_change_is_one_file_of_code_and_one_option(section):
    (diff,) = diffs(section)
    files = re.findall(r"^\+\+\+ b/(.*)", diff, re.MULTILINE)
    assert [file.rpartition(".")[2] for file in files] == ["py", "yaml"]
    assert len(re.findall(r"^\+[^+]", diff, re.MULTILINE)) <= 26


def test_own_classes_are_trained_with_and_are_in_the_record(trained):
    choices = read_record(trained)["choices"]
    chosen = [choices[group] for group in ("loss", "optimizer", "scheduler", "callbacks")]
    assert chosen == ["my_dice", "sign", "halved", "largest"]
    config = OmegaConf.load(trained / ".hydra" / "config.yaml")
    assert config.loss._target_ == "my_loss.Dice"
    header, *rows = [line.split(",") for line in (trained / "metrics.csv").read_text().splitlines()]
    written = {name: [row[place] for row in rows if row[place]] for place, name in enumerate(header)}
    assert len(written["train/largest_weight"]) == 4
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["optimizer_states"][0]["state"] == {}, "signSGD keeps nothing"
    assert content["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(3e-4 / 16)
    assert 0 < read_record(trained)["metrics"]["last"]["train/loss"] < 1 + 2 * 0.2, "Dice, and two heads of 0.2"


def test_data_module_of_the_page_is_learned_and_evaluated_where_it_is_trusted(run, folder):
    short = ["trainer.max_epochs=1", *FAST[:1], "logger=csv", "paths.run_dir=squares"]
    done = run("train.py", *arguments("Data"), *short, cwd=folder)
    assert done.returncode == 0, done.stderr
    record = read_record(folder / "squares")
    assert record["choices"]["data"] == "squares"
    assert {"val/iou/dark", "val/iou/bright"} <= record["metrics"]["best"].keys()
    command = ["eval.py", "checkpoint=squares/checkpoints/best.ckpt", *FAST[:1], "paths.run_dir=evaluated"]
    refused = run(*command, cwd=folder)
    assert (refused.returncode, "trust=my_data" in refused.stderr) == (2, True)
    evaluated = run(*command, "trust=my_data", cwd=folder)
    assert evaluated.returncode == 0, evaluated.stderr
    assert (folder / "evaluated" / "eval.json").is_file()


def test_help_lists_the_options_of_the_folder(run, folder):
    text = run("train.py", "--config-dir=my_conf", "--help", cwd=folder).stdout
    assert "optimizer=sign" in text
    assert "signSGD (Bernstein et al. 2018)" in text


def test_shell_completes_the_options_of_a_group(run, folder):
    line = "python src/train.py optimizer="
    done = run("train.py", "-sc", "query=bash", cwd=folder, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.stdout.split() == ["optimizer=adamw", "optimizer=lamb", "optimizer=sgd"]
