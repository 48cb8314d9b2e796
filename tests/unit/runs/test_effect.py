"""Nothing that a command line asks for is ignored in silence."""

import pytest
from hydra.core.hydra_config import HydraConfig

from fastscnn.runs.effect import check_multirun_settings
from fastscnn.runs.run import Run
from fastscnn.utils.errors import RequestError
from helpers import job, make_run, refused

JOINED = "data.train_splits=[train,val]"


def create(folder, *overrides):
    with job(f"paths.output_dir='{folder}'", *overrides) as config:
        return Run.create(config)


@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        (["optimizer=adamw", "data.lr=0.1"], "data.lr", "optimizer.lr=0.1"),
        (["optimizer.lr=0.2", "data.lr=0.1"], "data.lr", "optimizer.lr=0.1"),
        (["data.max_epochs=9", "trainer.max_epochs=3"], "data.max_epochs", "trainer.max_epochs=9"),
        (["data.max_epochs=9", "debug=one_batch"], "data.max_epochs", "trainer.max_epochs=9"),
        (["data.scale=[1,2]", "augment=none"], "data.scale", "Leave data.scale out."),
        (["experiment=imagenet_pretrain", "pictures=2"], "pictures", "Leave pictures out."),
        ([JOINED, "trainer.check_val_every_n_epoch=5"], "trainer.check_val_every_n_epoch", "data.held_out"),
        ([JOINED, "data.check_val_every_n_epoch=5"], "data.check_val_every_n_epoch", "data.held_out"),
        ([JOINED, "trainer.limit_val_batches=2"], "trainer.limit_val_batches", "data.held_out"),
        ([JOINED, "pictures=2"], "pictures", "data.held_out"),
    ],
)
def test_setting_without_an_effect_is_named_with_what_to_set_instead(tmp_path, overrides, key, fix):
    with pytest.raises(RequestError) as found:
        create(tmp_path, *overrides)
    assert found.value.key == key
    assert fix in found.value.fix


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.lr=0.1"],
        ["optimizer=adamw", "optimizer.lr=0.1"],
        [JOINED, "pictures=0"],
        [JOINED, "data.held_out=aldenmoor", "trainer.check_val_every_n_epoch=5"],
        ["trainer.check_val_every_n_epoch=5"],
    ],
)
def test_settings_with_an_effect_are_taken(tmp_path, overrides):
    assert create(tmp_path, *overrides).config


def test_resumed_run_refuses_what_would_be_ignored_too(tmp_path):
    folder = make_run(tmp_path / "run", "optimizer=adamw", "trainer.max_epochs=4")
    with job(f"resume='{folder}'", "data.lr=0.2") as config, pytest.raises(RequestError) as found:
        Run.resume(folder, list(HydraConfig.get().overrides.task), config)
    assert found.value.key == "data.lr"


@pytest.mark.parametrize(
    ("override", "key"),
    [("rerun=true", "rerun"), ("hydra/launcher=joblib", "hydra/launcher"), ("hydra.sweep.dir=x", "hydra.sweep.dir")],
)
def test_setting_of_a_multirun_is_refused_in_a_single_run(override, key):
    with job(override) as config, refused(key, fix="-m"):
        check_multirun_settings(config)
    with job(override, "hydra.mode=MULTIRUN") as config:
        check_multirun_settings(config)


def test_runs_earlier_command_is_not_held_against_the_one_that_continues_it(tmp_path):
    folder = make_run(tmp_path / "run", "rerun=true")
    with job(f"resume='{folder}'") as config:
        check_multirun_settings(config)
        assert Run.resume(folder, list(HydraConfig.get().overrides.task), config)
