"""Every option composes, wrong values are refused in one sentence, wrong words get the nearest right one."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf

from fastscnn.cli.launch import CONF
from fastscnn.models.build import MODELS
from fastscnn.runs.config import REQUIREMENTS, check_config, explain
from fastscnn.training.checks import check_settings
from fastscnn.training.trainer import validation_interval
from fastscnn.utils.errors import RequestError

MAINS = sorted(file.stem for file in CONF.glob("*.yaml"))
GROUPS = {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()}
del GROUPS["hydra"]  # what all commands share, and no choice


def composed(*overrides, name="train"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in GROUPS[group]])
def test_every_option_composes_and_passes_the_checks(group, option):
    config = composed(f"{group}={option}")
    check_config(config)
    OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize("name", MAINS)
def test_every_command_writes_nothing_by_itself_and_stays_where_it_was_called(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = compose(name, return_hydra_config=True).hydra
    assert (settings.job.name, settings.help.app_name) == (name, f"{name}.py")
    assert (settings.output_subdir, settings.run.dir, settings.sweep.subdir, settings.job.chdir) == (
        None,
        ".",
        ".",
        False,
    )


def test_base_config_is_the_papers_recipe_on_cityscapes():
    config = composed("data=fine")
    assert (config.data.batch_size, config.trainer.max_epochs) == (12, 1000)
    assert (config.optimizer.lr, config.optimizer.momentum, config.scheduler.power) == (0.045, 0.9, 0.9)
    assert config.optimizer.weight_decay == 4e-5
    assert config.loss.auxiliary_weight == 0.4
    assert list(config.augment.scale) == [0.5, 2.0]
    assert (config.model.skip, config.model.activation) == ("keep", "relu")


def test_every_checked_key_exists_in_some_config():
    others = [composed(name=name) for name in ("eval", "predict", "export", "benchmark")]
    configs = [composed(), composed("experiment=imagenet_pretrain"), *others]
    for key in REQUIREMENTS:
        assert any(OmegaConf.select(config, key, default=...) is not ... for config in configs), key


def test_eval_takes_data_settings_and_skip_with_and_without_a_data_option():
    config = composed("checkpoint=x", "data.root=/a", "skip=zero", name="eval")
    assert config.data.root == "/a"
    assert config.model.skip == "zero"
    assert composed("checkpoint=x", "data=camvid", "data.root=/a", name="eval").data.dataset == "camvid"


def test_peer_comes_without_what_belongs_to_fast_scnn():
    for name in GROUPS["model"]:
        model = composed(f"model={name}").model
        assert model.name == name
        assert ("skip" in model, "activation" in model) == ((True, True) if name == "fast_scnn" else (False, False))
    assert set(GROUPS["model"]) <= set(MODELS)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["skip=zero"], "skip=zero is a choice of model=fast_scnn alone, and this is erfnet: leave skip out."),
        (["skip=keep"], "skip=keep is a choice of model=fast_scnn alone, and this is erfnet: leave skip out."),
        (["activation=relu6"], "activation=relu6 is a choice of model=fast_scnn alone, and this is erfnet: leave "),
        (["experiment=no_skip"], "skip=zero is a choice of model=fast_scnn alone"),
        (
            ["pretrain=imagenet"],
            "pretrain=imagenet fills parts of fast_scnn, and model=erfnet has none of them: leave ",
        ),
        (
            ["experiment=imagenet_pretrain"],
            "data=imagenet pre-trains fast_scnn, and model=erfnet is not it: leave model ",
        ),
        (["model.name=lenet"], "model.name=lenet is unknown: it is one of fast_scnn, segnet, "),
    ],
)
def test_what_a_peer_cannot_have_is_refused_before_anything_is_read(overrides, sentence):
    pytest.importorskip("pytorchcv", reason="the peers come from the library pytorchcv, which is not installed")
    plain = OmegaConf.to_container(composed("model=erfnet", *overrides), resolve=True)
    with pytest.raises(RequestError) as raised:
        check_settings(plain)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    "override",
    [
        "data.batch_size=0",
        "data.batch_size=2.5",
        "data.batch_size=true",
        "data.num_workers=-1",
        "data.crop_size=[0,4]",
        "data.crop_size=4",
        "optimizer.lr=nan",
        "optimizer.lr=inf",
        "optimizer.lr=-1",
        "optimizer.lr=fast",
        "optimizer.momentum=1",
        "trainer.max_epochs=0",
        "trainer.devices=0",
        "trainer.precision=8",
        "seed=-1",
        "model.dropout=1.0",
        "model.activation=gelu",
    ],
)
def test_wrong_value_is_refused_with_its_key_and_what_is_allowed(override):
    key = override.partition("=")[0]
    with pytest.raises(RequestError, match=rf"^{key}=.* is not .*\. Set {key}="):
        check_config(composed(override))


def test_missing_checkpoint_is_asked_for():
    with pytest.raises(RequestError, match=r"^checkpoint is not set\. Set checkpoint="):
        check_config(composed(name="eval"))


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("data=fin", "data=fine?"),
        ("skip=zer", "skip=zero?"),
        ("experiment=fineonly", "experiment=fine_only?"),
        ("data.bach_size=3", "data.batch_size?"),
        ("batch_size=3", "data.batch_size?"),
        ("trainer.max_epoch=3", "trainer.max_epochs?"),
        ("optimiser.lr=3", "optimizer.lr?"),
        ("dat=fine", "data?"),
    ],
)
def test_misspelt_override_gets_the_nearest_right_one(override, suggestion):
    with pytest.raises((ConfigCompositionException, MissingConfigException)) as raised:
        composed(override)
    sentence = explain(raised.value, CONF, "train")
    assert f"Did you mean {suggestion}" in sentence
    assert "\n" not in sentence


def test_override_that_cannot_be_parsed_is_told_in_one_line():
    with pytest.raises(HydraException) as raised:
        composed("data.crop_size=[1,2")
    assert "\n" not in explain(raised.value, CONF, "train")


def test_fused_step_beside_clipping_at_mixed_precision_is_refused_before_lightning_does():
    overrides = ["data=fine", "optimizer.fused=true", "trainer.gradient_clip_val=1.0"]
    check_settings(OmegaConf.to_container(composed(*overrides), resolve=True))
    with pytest.raises(RequestError, match=r"^optimizer\.fused=true and trainer\.gradient_clip_val=1\.0 do not go"):
        check_settings(OmegaConf.to_container(composed(*overrides, "trainer.precision=bf16-mixed"), resolve=True))


@pytest.mark.parametrize("epochs", [1, 7, 99, 100, 150, 350, 400, 997, 1000])
def test_automatic_validation_interval_always_ends_on_the_last_epoch(epochs):
    every = validation_interval("auto", epochs)
    assert epochs % every == 0
    assert every <= max(1, -(-epochs // 100))


@pytest.mark.parametrize(
    ("setting", "epochs", "expected"), [(2, 1, 1), (2, 3, 1), (2, 20, 2), (50, 20, 20), (7, 20, 5)]
)
def test_validation_interval_as_set_is_shortened_until_it_ends_on_the_last_epoch(setting, epochs, expected):
    assert validation_interval(setting, epochs) == expected
