"""Every option composes, wrong values are refused in one sentence, wrong words get the nearest right one."""

import copy
import importlib.util

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fastscnn.cli import multirun
from fastscnn.cli.launch import CONF
from fastscnn.cli.options import in_one_row, lines, with_options
from fastscnn.models.build import MODELS
from fastscnn.runs.config import broken_reference, check_config, explain
from fastscnn.training.checks import check_settings
from fastscnn.training.fit import checked_data
from fastscnn.training.trainer import try_trainer, validation_interval
from fastscnn.utils.errors import RequestError
from helpers import refused

MAINS = sorted(file.stem for file in CONF.glob("*.yaml"))
GROUPS = {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()}
del GROUPS["hydra"]  # what all commands share, and no choice
NEEDED = {"data": ["data.module._target_=my.Module"], "model": [f"model.network._target_={__name__}.Network"]}
"""What the option `external` of a group is of no use without."""


class Network(torch.nn.Conv2d):
    def __init__(self, num_classes):
        super().__init__(3, num_classes, 1)


def composed(*overrides, name="train"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in GROUPS[group]])
def test_every_option_composes_and_passes_the_checks(group, option):
    alone = {
        "data": {"imagenet", "folder", "external"},
        "loss": {"classification"},
        "augment": {"imagenet"},
    }  # experiment=imagenet_pretrain; a root; a module
    if not torch.cuda.is_available():
        alone["trainer"] = {"gpu", "ddp"}
    config = composed(f"{group}={option}", *(NEEDED[group] if option == "external" else []))
    check_config(config)
    plain = OmegaConf.to_container(config, resolve=True)
    if option not in alone.get(group, ()):
        checked_data(plain)


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


def test_eval_takes_data_settings_and_skip_with_and_without_a_data_option():
    config = composed("checkpoint=x", "data.root=/a", "skip=zero", name="eval")
    assert config.data.root == "/a"
    assert config.model.skip == "zero"
    assert composed("checkpoint=x", "data=camvid", "data.root=/a", name="eval").data.dataset == "camvid"


def test_peer_comes_without_what_belongs_to_fast_scnn():
    for name in GROUPS["model"]:
        model = composed(f"model={name}", *(NEEDED["model"] if name == "external" else [])).model
        assert model.name == name
        assert ("skip" in model, "activation" in model) == ((True, True) if name == "fast_scnn" else (False, False))
    assert set(GROUPS["model"]) <= set(MODELS)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["skip=zero"], "skip"),
        (["skip=keep"], "skip"),
        (["activation=relu6"], "activation"),
        (["experiment=no_skip"], "skip"),
        (["pretrain=imagenet"], "pretrain"),
        (["experiment=imagenet_pretrain"], "model"),
        (["model.name=lenet"], "model.name"),
    ],
)
def test_what_a_peer_cannot_have_is_refused_before_anything_is_read(overrides, key):
    pytest.importorskip("pytorchcv", reason="the peers come from the library pytorchcv, which is not installed")
    plain = OmegaConf.to_container(composed("model=erfnet", *overrides), resolve=True)
    with pytest.raises(RequestError) as refused:
        check_settings(plain)
    assert refused.value.key == key
    assert refused.value.fix == (
        f"Leave {key} out." if key != "model.name" else f"Set it to one of {', '.join(MODELS)}."
    )


@pytest.fixture(scope="module")
def settings():
    return OmegaConf.to_container(composed(), resolve=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("pictures", -1),
        ("data.batch_size", 0),
        ("data.batch_size", 2.5),
        ("data.batch_size", True),
        ("data.num_workers", -1),
        ("data.crop_size", [0, 4]),
        ("data.crop_size", 4),
        ("data.store", True),
        ("data.device", "tpu"),
        ("data.exif", "turn"),
        ("data.max_pixels", 0),
        ("data.streets.size", [0, 4]),
        ("data.streets.train", -1),
        ("data.streets.seed", 0.5),
        ("augment.scale", [2, 1]),
        ("augment.flip", 2),
        ("augment.channel_shift", -1),
        ("augment.brightness", 1.5),
        ("augment.crop_first", "yes"),
        ("model.in_channels", 4),
        ("model.activation", "gelu"),
        ("model.skip", "half"),
        ("model.dropout", 1.0),
        ("resolution.scale", 0),
        ("resolution.scale", 5),
        ("loss.auxiliary_weight", -1),
        ("loss.label_smoothing", 1),
        ("optimizer.lr", float("nan")),
        ("optimizer.lr", float("inf")),
        ("optimizer.lr", -1),
        ("optimizer.lr", "fast"),
        ("optimizer.momentum", 1),
        ("optimizer.weight_decay", -1),
        ("scheduler.power", -1),
        ("scheduler.warmup_steps", 0.5),
        ("data.train_splits", ["test"]),
        ("optimizer.fused", "yes"),
        ("trainer.max_epochs", 0),
        ("trainer.devices", 0),
        ("trainer.accelerator", "tpu"),
        ("trainer.precision", 8),
        ("trainer.limit_train_batches", 0),
        ("trainer.limit_val_batches", -1),
        ("trainer.accumulate_grad_batches", 0),
        ("trainer.check_val_every_n_epoch", "often"),
        ("trainer.gradient_clip_val", 0),
        ("trainer.sync_batchnorm", "yes"),
        ("trainer.deterministic", "yes"),
        ("trainer.compile", "yes"),
        ("trainer.channels_last", 1),
        ("trainer.keep_memory", "yes"),
        ("trainer.recompute", "yes"),
        ("trainer.cuda_graph", "yes"),
        ("trainer.fused_norm", "yes"),
        ("trainer.triton_depthwise", "yes"),
        ("trainer.profile_steps", -1),
        ("trainer.save_every_minutes", 0),
        ("trainer.save_every_epochs", 0),
    ],
)
def test_wrong_value_is_refused_with_its_key_before_anything_is_read(settings, key, value):
    plain = copy.deepcopy(settings)
    *groups, name = key.split(".")
    place = plain
    for group in groups:
        place = place[group]
    place[name] = value
    with pytest.raises(RequestError) as refused:
        checked_data(plain)
    assert refused.value.key == key
    assert refused.value.fix.startswith(f"Set {key} to ")


@pytest.mark.parametrize(
    ("group", "node"),
    [
        ("optimizer", {"_target_": "torch.optim.AdamW", "betas": 2}),
        ("optimizer", [1, 2]),
        ("scheduler", {"_target_": "fastscnn.training.schedules.cosine", "final": "x"}),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR"}),
    ],
)
def test_what_only_the_class_can_check_is_refused_before_there_is_a_folder(settings, group, node):
    with pytest.raises(RequestError) as refused:
        check_settings(settings | {group: node})
    assert refused.value.key == group


@pytest.mark.parametrize(
    "override",
    [
        "optimizer=null",
        "optimizer=",
        "~optimizer",
        "~optimizer=sgd",
        "data=fine,null",
        "data=[fine,camvid]",
        "optimizer=[adamw]",
        "experiment=[relu6]",
    ],
)
def test_group_without_an_option_or_with_several_is_refused_with_its_options(override):
    group = override.lstrip("~").partition("=")[0]
    with refused(group, override, "one option", fix=GROUPS[group][0]):
        with_options(["seed=1", override], "train", CONF)


@pytest.mark.parametrize("chosen", ["loss=ohem", "loss=cross_entropy,ohem", "callbacks=[default,ema]"])
def test_option_of_a_users_own_that_one_of_ours_would_hide_is_refused(tmp_path, chosen):
    for option in ("loss/ohem", "callbacks/ema", "loss/mine"):
        (tmp_path / option).parent.mkdir(exist_ok=True)
        (tmp_path / f"{option}.yaml").write_text("")
    with refused(chosen.partition("=")[0], tmp_path, fix="another name"):
        with_options([f"--config-dir={tmp_path}", chosen], "train", CONF)
    assert with_options(["-cd", str(tmp_path), "loss=mine"], "train", CONF)[-1] == "loss=mine"


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ("seed=1 -m data=fine", "-m seed=1 data=fine"),
        ("seed=1 --config-dir my_conf ~loss -m", "--config-dir my_conf -m seed=1 ~loss"),
        ("-m seed=1 data=fine", "-m seed=1 data=fine"),
        ("seed=1 --info defaults data=fine", "--info defaults seed=1 data=fine"),
        ("seed=1 data=fine --info", "seed=1 data=fine --info"),
        ("-sc install=bash", "-sc install=bash"),
    ],
)
def test_settings_may_stand_before_and_after_flags(arguments, row):
    assert in_one_row(arguments.split()) == row.split()


def test_trainer_that_cannot_be_built_is_refused_before_there_is_a_folder(settings):
    trainer = settings["trainer"] | {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "strategy": "foo"}
    with refused("trainer", "strategy='foo'"):
        try_trainer(trainer)


@pytest.mark.parametrize(
    ("override", "taken"),
    [
        ("optimizer=adamw.yaml", ["optimizer=adamw"]),
        ("data=fine.yaml,camvid", ["data=fine,camvid"]),
        ("callbacks=null", ["callbacks=[]"]),
        ("callbacks=[default,ema]", ["callbacks=[default,ema]"]),
        ("logger=csv", ["logger=csv"]),
        ("~logger", ["logger=[]"]),
        ("experiment=null", []),
        ("~experiment", []),
        ("experiment=relu6", ["experiment=relu6"]),
        ("optimizer.lr=null", ["optimizer.lr=null"]),
        ("--help", ["--help"]),
    ],
)
def test_options_are_taken_as_they_are_meant(override, taken):
    assert with_options([override], "train", CONF) == taken


def test_missing_checkpoint_is_asked_for():
    with pytest.raises(RequestError) as refused:
        check_config(composed(name="eval"))
    assert (refused.value.key, refused.value.fix) == ("checkpoint", "Set checkpoint=VALUE; see --help.")


def test_wrong_switch_of_a_multirun_is_refused():
    with pytest.raises(RequestError) as refused:
        check_config(composed("rerun=maybe"))
    assert refused.value.key == "rerun"


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


@pytest.mark.parametrize("key", ["model.network._target_", "data.module._target_"])
def test_class_of_an_external_option_names_the_option_that_takes_it(key):
    with pytest.raises(ConfigCompositionException) as raised:
        composed(f"{key}=my.Class")
    assert f"{key.partition('.')[0]}=external" in explain(raised.value, CONF, "train")


@pytest.mark.parametrize("key", ["optimizer.eps", "data.module.frames", "callbacks.ema.decay"])
def test_argument_that_is_not_there_yet_is_shown_as_it_is_added(key):
    with pytest.raises(ConfigCompositionException) as raised:
        composed(f"{key}=1")
    sentence = explain(raised.value, CONF, "train")
    assert sentence.endswith(f"+{key}=VALUE.")
    assert "Did you mean" not in sentence


@pytest.mark.parametrize(
    ("command", "key"), [("eval", "trainer.foo"), ("train", "callbacks.foo"), ("train", "logger.foo")]
)
def test_what_is_no_class_has_no_argument_to_add(command, key):
    with pytest.raises(ConfigCompositionException) as raised:
        composed(f"{key}=1", name=command)
    sentence = explain(raised.value, CONF, command)
    assert sentence.startswith(f"{key}: there is no such setting.") and "+" not in sentence


@pytest.mark.parametrize(
    ("command", "override"),
    [("predict", "resolution=quarter"), ("predict", "data=camvid"), ("eval", "pretrain=none"), ("eval", "trainer=cpu")],
)
def test_group_that_a_command_does_not_have_is_said_not_to_be_its(command, override):
    """With these commands, no choice brings it in."""
    with pytest.raises(HydraException) as raised:
        composed(override, name=command)
    key = override.partition("=")[0]
    assert explain(raised.value, CONF, command).startswith(f"{command}.py has no group {key}: leave it out.")


def test_override_that_cannot_be_parsed_is_told_in_one_line():
    with pytest.raises(HydraException) as raised:
        composed("data.crop_size=[1,2")
    assert "\n" not in explain(raised.value, CONF, "train")


def test_pattern_that_hydra_cannot_parse_is_shown_as_it_is_quoted():
    with pytest.raises(HydraException) as raised:
        composed("data.masks=masks/{name}.png")
    assert "'data.masks=\"masks/{name}.png\"'" in explain(raised.value, CONF, "train")


def test_fused_step_beside_clipping_at_mixed_precision_is_refused_before_lightning_does():
    overrides = ["data=fine", "optimizer.fused=true", "trainer.gradient_clip_val=1.0"]
    check_settings(OmegaConf.to_container(composed(*overrides), resolve=True))
    with pytest.raises(RequestError) as refused:
        check_settings(OmegaConf.to_container(composed(*overrides, "trainer.precision=bf16-mixed"), resolve=True))
    assert (refused.value.key, refused.value.fix) == ("optimizer.fused", "Leave optimizer.fused out.")


@pytest.mark.parametrize("name", ["fused_norm", "triton_depthwise"])
def test_programs_of_ours_beside_layers_that_are_recomputed_are_refused(settings, name):
    trainer = settings["trainer"] | {"recompute": True}
    check_settings(settings | {"trainer": trainer | {name: "auto"}})
    with pytest.raises(RequestError, match="do not go together") as refused:
        check_settings(settings | {"trainer": trainer | {name: True}})
    assert refused.value.key == f"trainer.{name}"


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


def test_help_has_a_line_for_every_group_and_option_of_a_command():
    shown = list(lines("train", [CONF]))
    for group, options in GROUPS.items():
        (title,) = [line for line in shown if line.startswith(f"{group}: ")]
        assert len(title) > len(group) + 5
        for option in options:
            (line,) = [line for line in shown if f"{group}={option}" == line.split()[0].lstrip("*")]
            assert len(line.split()) > 3, f"{group}={option} has a header"
            assert len(line) < 160
    assert " *optimizer=sgd" in [line[:15] for line in shown]
    assert not [line for line in lines("eval", [CONF]) if "optimizer" in line]


def test_help_lists_the_options_of_a_folder_of_a_users_own(tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("# @package _global_\n# A $new one, as in et al. 2020. More.\n")
    (line,) = [line for line in lines("train", [CONF, tmp_path]) if "optimizer=mine" in line]
    assert line.split(None, 1)[1] == "A $new one, as in et al. 2020"


@pytest.mark.parametrize(
    ("content", "facts"),
    [("_target_: [a\n", ["loss/mine.yaml, line 2", "correct it"]), ("a: 1\n b: 2\n", ["loss/mine.yaml, line 2"])],
)
def test_file_of_a_users_own_that_is_no_yaml_is_named_with_its_line(tmp_path, content, facts):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text(content)
    with pytest.raises(YAMLError) as raised:
        composed("loss=mine", f"hydra.searchpath=['file://{tmp_path}']")
    sentence = explain(raised.value, CONF, "train")
    assert "\n" not in sentence
    for fact in facts:
        assert fact in sentence


def test_reference_to_nothing_and_missing_folder_are_one_sentence():
    config = OmegaConf.create({"loss": {"weight": "${nothing.here}"}})
    with pytest.raises(OmegaConfBaseException) as raised:
        OmegaConf.to_container(config, resolve=True)
    assert broken_reference(raised.value).startswith("loss.weight: Interpolation key 'nothing.here' not found.")
    missing = HydraException("Additional config directory '/nowhere/conf' not found")
    assert explain(missing, CONF, "train").startswith("--config-dir=/nowhere/conf: there is no such folder.")


@pytest.mark.parametrize("option", ["joblib", "submitit_local", "submitit_slurm"])
def test_launcher_that_is_not_installed_says_what_to_install(monkeypatch, option):
    real = importlib.util.find_spec
    monkeypatch.setattr(multirun, "find_spec", lambda name: None if "launcher" in name else real(name))
    package = f"hydra-{option.partition('_')[0]}-launcher"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"hydra/launcher={option}"], return_hydra_config=True)
    with refused("hydra/launcher", option, fix=f"pip install {package}"):
        multirun.check_launcher(config)


def test_number_of_jobs_side_by_side_is_checked_before_the_first():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], return_hydra_config=True)
    with refused("hydra.launcher.n_jobs", "n_jobs=0"):
        multirun.check_launcher(config)


@pytest.mark.parametrize(("devices", "fine"), [("4", True), ("auto", False), ("[0,1]", False)])
def test_slurm_is_asked_for_a_number_of_gpus(devices, fine):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["hydra/launcher=submitit_slurm", f"trainer.devices={devices}"]
        config = compose("train", overrides, return_hydra_config=True)
    if fine:
        multirun.check_launcher(config)
        assert config.hydra.launcher.tasks_per_node == 4
        return
    with refused("trainer.devices", fix="trainer.devices=N"):
        multirun.check_launcher(config)
