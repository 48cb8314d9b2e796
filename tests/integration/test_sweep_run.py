"""One point of a sweep, trained as W&B's agent starts it: environment, parameter file and command are its own.

Not in a file of the unit test's name: pytest tells test files apart by their names.
"""

import json

import pytest

from helpers import FAST, agent_start, sweep, wandb_config_of, wandb_records


@pytest.fixture(scope="module")
def swept(run, cityscapes, tmp_path_factory):
    """The folder of a run of the point `skip=zero activation=relu data=fine_coarse pretrain=none` of the ablations."""
    cwd = tmp_path_factory.mktemp("sweep")
    config = sweep("ablations")
    place = config["command"].index("${args_no_hyphens}")
    config["command"][place:place] = [  # lines that a user adds, as the headers of the sweep files say
        f"data.root={cityscapes}",
        "data.batch_size=4",
        "trainer.max_epochs=2",
        "trainer.check_val_every_n_epoch=1",
        *FAST,
    ]
    point = {"skip": "zero", "activation": "relu", "data": "fine_coarse", "pretrain": "none"}
    with pytest.MonkeyPatch.context() as patch:
        command, environment = agent_start(config, point, patch, cwd, run_id="agent123")
    assert command[:3] == ["/usr/bin/env", "python", "src/train.py"]
    assert command[-4:] == [f"{key}={value}" for key, value in point.items()]
    of_wandb = {key: value for key, value in environment.items() if key.startswith("WANDB_")}
    done = run("train.py", *command[3:], cwd=cwd, **of_wandb)
    assert done.returncode == 0, done.stderr
    (folder,) = (path.parent for path in (cwd / "outputs").rglob("run.json"))
    return folder


def test_run_is_labelled_by_its_point_and_keeps_the_agents_id(swept):
    data = json.loads((swept / "run.json").read_text())
    assert (data["status"], data["wandb_id"]) == ("finished", "agent123")
    assert data["name"] == swept.parent.name == "fine_coarse-skip_zero"
    (logged,) = wandb_records(swept, "run")
    assert (logged.run_id, logged.sweep_id) == ("agent123", "sweep1")


def test_swept_groups_arrive_as_their_options_beside_the_whole_config(swept):
    logged = wandb_config_of(swept)
    assert {key: logged[key] for key in ("skip", "activation", "data", "pretrain", "seed")} == {
        "skip": "zero",
        "activation": "relu",
        "data": "fine_coarse",
        "pretrain": "none",
        "seed": 0,
    }
    whole = logged["config"]
    assert (whole["data"]["dataset"], whole["data"]["batch_size"]) == ("fine_coarse", 4)
    assert (whole["model"]["skip"], whole["model"]["activation"]) == ("zero", "relu")
    assert whole["pretrain"]["name"] == "none"


def test_what_the_sweep_maximises_is_in_the_history_once_for_each_validation(swept):
    name = sweep("ablations")["metric"]["name"]
    logged = [
        json.loads(item.value_json)
        for row in wandb_records(swept, "history")
        for item in row.item
        if ".".join(item.nested_key) == name
    ]
    best = json.loads((swept / "run.json").read_text())["metrics"]["best"][name.replace("best/", "val/")]
    assert len(logged) == 2
    assert max(logged) == pytest.approx(best)
