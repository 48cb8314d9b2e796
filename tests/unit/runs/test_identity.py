"""A run is named, tagged and grouped by what was chosen, however it was chosen."""

import json

import pytest

from fastscnn.cli.launch import CONF
from fastscnn.runs.identity import GROUPS, chosen_identity, recorded_identity
from fastscnn.runs.jobs import VARIABLE
from helpers import job


def identity(*overrides):
    with job(*overrides) as config:
        return chosen_identity(config)


def test_default_run_is_named_by_its_data_alone():
    assert identity().name == "streets"


def test_every_choice_that_is_not_the_default_is_in_the_name():
    assert identity("data=fine", "activation=relu6", "skip=zero").name == "fine-skip_zero-activation_relu6"


def test_every_default_is_an_option_and_the_one_that_is_composed():
    for group, default in GROUPS.items():
        assert (CONF / group / f"{default}.yaml").is_file()
        assert identity().choices[group] == default


def test_overridden_experiment_is_labelled_by_what_it_became():
    overridden = identity("experiment=fine_only", "data=camvid", "skip=zero")
    assert overridden.name == "camvid-skip_zero"
    assert {"data=camvid", "skip=zero"} <= set(overridden.tags)
    assert "data=fine" not in overridden.tags


@pytest.mark.parametrize(("group", "option"), [("skip", "zero"), ("activation", "relu6")])
def test_value_set_past_its_group_is_labelled_like_the_group(group, option):
    assert identity(f"model.{group}={option}") == identity(f"{group}={option}")
    assert identity(f"{group}={option}", f"model.{group}={GROUPS[group]}") == identity()


def test_run_of_a_peer_carries_its_model_and_nothing_of_fast_scnns_choices():
    contextnet = identity("data=fine", "model=contextnet")
    assert contextnet.name == "fine-model_contextnet"
    assert contextnet.overrides == {}
    assert not {"skip", "activation"} & set(contextnet.choices)
    assert identity("model.name=contextnet").choices["model"] == "contextnet"


@pytest.mark.parametrize(("option", "scale"), [("double", 2.0), ("full", 1.0), ("half", 0.5), ("quarter", 0.25)])
def test_resolution_is_labelled_by_the_scale_it_came_to(option, scale):
    assert identity(f"resolution={option}").choices["resolution"] == option
    assert identity(f"resolution.scale={scale}").choices["resolution"] == option
    assert identity("resolution=half", "resolution.scale=0.4").name == "streets-resolution_0.4"


def test_overrides_are_the_settings_besides_the_groups():
    chosen = identity("experiment=fine_only", "skip=zero", "trainer.max_epochs=3", "+trainer.profiler=simple")
    assert chosen.overrides == {"trainer.max_epochs": "3", "trainer.profiler": "simple"}


def test_pretraining_is_named_by_its_data_with_its_own_default_augmentation():
    assert identity("experiment=imagenet_pretrain").name == "imagenet"
    assert identity("experiment=imagenet_pretrain", "augment=none").name == "imagenet-augment_none"
    assert not {"loss=classification", "loss"} & set(identity("experiment=imagenet_pretrain").tags)


@pytest.mark.parametrize("loss", ["lovasz", "dice", "ohem"])
def test_loss_that_is_not_the_papers_is_in_the_name_the_group_and_the_tags(loss):
    chosen = identity("experiment=camvid", f"loss={loss}", "optimizer=adamw")
    assert chosen.name == chosen.group == f"camvid-loss_{loss}-optimizer_adamw"
    assert f"loss={loss}" in chosen.tags
    assert not [tag for tag in identity("experiment=camvid").tags if tag.startswith("loss")]


def test_tags_name_each_group_once():
    assert [tag.partition("=")[0] for tag in identity("experiment=camvid").tags] == [*GROUPS, "experiment"]


def test_flat_keys_are_the_groups_the_experiment_and_the_seed():
    flat = identity("experiment=camvid", "skip=zero").flat(7)
    assert flat == {**GROUPS, "data": "camvid", "skip": "zero", "experiment": "camvid", "seed": 7, "study": None}
    assert identity().flat(0)["experiment"] is None


def test_jobs_of_a_multirun_share_its_group_and_single_runs_that_of_their_name(monkeypatch, tmp_path):
    sweep = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=outputs/multirun/noon/"]
    jobs = [identity(*sweep, f"skip={skip}") for skip in ("keep", "zero")]
    assert [job.group for job in jobs] == ["noon", "noon"], "of a launcher that does not hand the multirun on"
    assert jobs[0].name != jobs[1].name
    assert identity("skip=zero").group == "streets-skip_zero"
    monkeypatch.setenv(VARIABLE, json.dumps({"folder": str(tmp_path), "group": "skip-12345678", "swept": ["skip"]}))
    assert [identity(*sweep, f"skip={skip}").group for skip in ("keep", "zero")] == ["skip-12345678"] * 2
    assert identity("skip=zero").group == "streets-skip_zero"


def test_resumed_run_is_who_its_record_says():
    was = identity("data=fine", "skip=zero", "seed=3")
    record = {"choices": was.choices, "overrides": was.overrides, "group": was.group}
    assert recorded_identity(record) == was
    assert recorded_identity(record | {"group": None}).group == was.name
