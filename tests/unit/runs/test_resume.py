"""What `resume=RUN_DIR` goes on with, what it may change, and what it says where it cannot."""

import json
import os
import shlex
import signal

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fastscnn.cli.skip_finished import earlier_run
from fastscnn.runs import run
from fastscnn.runs.identity import recorded_identity
from fastscnn.runs.jobs import Multirun
from fastscnn.runs.record import read_record
from fastscnn.runs.resume import resumption, write_config
from fastscnn.runs.resume_point import restart_command, resume_command
from fastscnn.runs.run import Run
from fastscnn.utils.locks import take
from fastscnn.utils.signals import Interrupted, watched
from helpers import change_run, job, make_run, refused


def resume(folder, *overrides, **settings):
    with job(f"resume='{folder}'", *overrides) as config:
        return resumption(config.resume, HydraConfig.get().overrides.task, config, **settings)


@pytest.fixture
def stopped(tmp_path):
    """Stopped after 2 of 4 epochs."""
    return make_run(tmp_path / "a run", "skip=zero", "seed=7", "data.lr=0.1", "trainer.max_epochs=4")


@pytest.mark.parametrize("file", ["", "run.json", "checkpoints/last.ckpt"])
def test_run_keeps_its_own_config_and_identity_whatever_is_composed_today(stopped, file):
    resumed = resume(stopped / file)
    assert (resumed.epochs, resumed.step, resumed.finished, resumed.changes) == (2, 20, False, {})
    assert (resumed.config.model.skip, resumed.config.seed, resumed.config.optimizer.lr) == ("zero", 7, 0.1)
    assert resumed.config.resume is None
    assert recorded_identity(resumed.record).name == "streets-skip_zero"


def test_settings_of_how_it_is_carried_out_are_told_and_recorded_and_the_old_ones_are_kept(stopped):
    changed = ["data.lr=0.2", "trainer.max_epochs=6", "data.root=/elsewhere", "data.store=off"]
    resumed = resume(stopped, *changed, "skip=zero", "seed=7")
    assert resumed.changes == {
        "data.root": (None, "/elsewhere"),
        "data.store": ("auto", "off"),
        "data.lr": (0.1, 0.2),
        "optimizer.lr": (0.1, 0.2),
        "trainer.max_epochs": (4, 6),
    }
    assert "resume: trainer.max_epochs 4 -> 6" in list(resumed.lines())
    with job(f"resume='{stopped}'", *changed) as config, Run.of(config) as opened:
        assert read_record(stopped)["status"] == "running"
        assert opened.record.data["error"] is opened.record.data["finished"] is None
    (entry,) = read_record(stopped)["resumed"]
    assert (entry["epoch"], entry["step"], entry["overrides"]["trainer.max_epochs"]) == (2, 20, [4, 6])
    assert entry["time"] and entry["command"] and entry["versions"]
    assert read_record(stopped)["overrides"]["trainer.max_epochs"] == "6"
    for name, expected in (("config.yaml", 6), ("config.1.yaml", 4)):
        assert OmegaConf.load(stopped / ".hydra" / name).trainer.max_epochs == expected
    assert "trainer.max_epochs=6" in OmegaConf.load(stopped / ".hydra" / "overrides.yaml")
    assert "trainer.max_epochs=6" not in OmegaConf.load(stopped / ".hydra" / "overrides.1.yaml")
    write_config(resumed)
    assert (stopped / ".hydra" / "config.2.yaml").exists()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("skip=keep", "skip=zero"),
        ("experiment=fine_only", "experiment=none"),
        ("model.dropout=0.2", "0.1 -> 0.2"),
        ("loss.auxiliary_weight=0", "0.4 -> 0"),
        ("seed=8", "7 -> 8"),
        ("data.batch_size=8", "6 -> 8"),
        ("data.streets.train=9", "400 -> 9"),
        ("trainer.limit_train_batches=3", "1.0 -> 3"),
        ("trainer.profile_steps=5", "0 -> 5"),
        ("paths.run_dir=other", "its own folder"),
        ("~pictures", "~pictures"),
        ("trainer.max_epochs=2", "the 2 epochs"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0"),
    ],
)
def test_what_would_make_it_another_run_is_refused(stopped, override, named):
    before = sorted(stopped.rglob("*")), (stopped / "run.json").read_text()
    with refused(override.lstrip("~").partition("=")[0], named) as raised:
        resume(stopped, override)
    assert "\n" not in str(raised.value)
    assert (sorted(stopped.rglob("*")), (stopped / "run.json").read_text()) == before


def test_finished_run_says_so_and_can_be_made_longer_only(tmp_path):
    folder = make_run(tmp_path / "run", "trainer.max_epochs=2", status="finished")
    (line,) = resume(folder, "data.num_workers=3").lines()
    assert line == f"{folder} is finished (epoch 2 of 2). Extend it with trainer.max_epochs=N above 2."
    assert not resume(folder, "trainer.max_epochs=3").finished
    with refused("trainer.max_epochs", "the 2 epochs", fix="trainer.max_epochs=3"):
        resume(folder, "trainer.max_epochs=1")


def test_run_that_stopped_after_its_last_epoch_goes_on_to_its_test(tmp_path):
    assert not resume(make_run(tmp_path / "run", "trainer.max_epochs=2")).finished


def test_what_is_no_run_or_kept_nothing_is_told_in_one_sentence(stopped, tmp_path):
    (tmp_path / "empty").mkdir()
    for given, fact, fix in (
        (tmp_path / "none", "no such folder", "outputs/NAME/TIME-ID"),
        (tmp_path / "empty", "run.json", "outputs/NAME/TIME-ID"),
        (stopped / "checkpoints" / "best.ckpt", "last.ckpt", "folder"),
        (make_run(tmp_path / "early", epochs=None), "before its first checkpoint", "python src/train.py"),
    ):
        with refused("resume", given, fact, fix=fix):
            resume(given)
    last = stopped / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:300])
    (stopped / "checkpoints" / "best.ckpt").touch()
    with refused("resume", "last.ckpt", "best.ckpt", fix="python src/train.py"):
        resume(stopped)
    (stopped / ".hydra" / "config.yaml").unlink()
    with refused("resume", "config.yaml"):
        resume(stopped)


def test_broken_checkpoint_stops_no_run_that_another_one_lets_go_on(stopped):
    last, best = (stopped / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    content = torch.load(last, weights_only=True)
    torch.save(content | {"global_step": 15, "callbacks": {}}, best)
    resumed = resume(stopped)
    assert (resumed.point.checkpoint, resumed.point.warnings, resumed.point.best_lost) == (last, (), False)

    whole = last.read_bytes()
    last.write_bytes(whole[:300])
    resumed = resume(stopped)
    assert (resumed.point.checkpoint, resumed.step) == (best, 15)
    assert f"resume: {last} is broken: the run continues from {best}" in list(resumed.lines())
    last.unlink()
    assert f"resume: {last} is not there: the run continues from {best}" in list(resume(stopped).lines())

    torch.save(content | {"callbacks": {"FolderCheckpoint{}": {"best_k_models": {"best.ckpt": 0.5}}}}, last)
    best.write_bytes(b"half")
    resumed = resume(stopped)
    assert (resumed.point.checkpoint, resumed.point.best_lost) == (last, True)
    assert any(f"{best} is broken" in line for line in resumed.lines())
    best.unlink()
    assert any(f"{best} is gone" in line for line in resume(stopped).lines())


def test_signal_while_a_run_opens_is_recorded_and_the_command_that_starts_it_anew_is_printed(tmp_path, monkeypatch):
    """Between the record's first state and the moment from which somebody closes it."""
    folder = tmp_path / "run"
    monkeypatch.setattr(run, "record_job_folder", lambda folder: os.kill(os.getpid(), signal.SIGTERM))
    with (
        pytest.raises(Interrupted) as stop,
        watched(),
        job("logger=csv", "seed=5", f"paths.run_dir={folder}") as config,
        Run.create(config),
    ):
        pytest.fail("it went on")
    assert (read_record(folder)["status"], read_record(folder)["error"]) == ("interrupted", "stopped by SIGTERM")
    assert stop.value.__notes__[-1].endswith(": python src/train.py logger=csv seed=5")
    assert resume_command(folder) is None


def test_command_that_starts_a_run_anew_names_its_settings_but_not_its_folder(tmp_path):
    settings = ["data.root='/my data/it\\'s'", "data.streets.size=[64,128]", "+trainer.plugins=null"]
    words = shlex.split(restart_command(make_run(tmp_path / "a run", *settings)))
    assert words == ["python", "src/train.py", "logger=csv", *settings]


def test_running_run_is_left_alone_but_the_other_processes_of_it_join(stopped):
    change_run(stopped, status="running")
    lock = take(stopped / "run.lock")
    with refused("resume", f"process {os.getpid()} on "):
        resume(stopped)
    assert resume(stopped, first_process=False).epochs == 2
    lock.release()


def test_stopped_run_names_the_command_that_goes_on_with_it(tmp_path):
    assert resume_command(tmp_path) is None
    for name in ("plain", "with space", "it's=odd", "1e5", "back\\slash"):
        folder = make_run(tmp_path / name) if "'" not in name else tmp_path / name
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        python, script, override = shlex.split(resume_command(folder))
        assert (python, script) == ("python", "src/train.py")
        (parsed,) = OverridesParser.create().parse_overrides([override])
        assert (parsed.key_or_group, parsed.value()) == ("resume", str(folder))
    with (
        pytest.raises(KeyboardInterrupt) as stop,
        job("logger=csv", f"paths.run_dir={tmp_path / 'new'}") as config,
        Run.create(config) as opened,
    ):
        (opened.folder / "checkpoints").mkdir()
        (opened.folder / "checkpoints" / "last.ckpt").touch()
        raise KeyboardInterrupt
    assert stop.value.__notes__[-1] == f"Continue it: python src/train.py resume={tmp_path / 'new'}"


def test_multiruns_group_is_the_same_when_it_is_called_again(tmp_path):
    def group(*overrides):
        return Multirun.of(overrides, tmp_path).group

    first = group("data=fine,fine_coarse", "pretrain=none,imagenet", "seed=1")
    assert first.startswith("data,pretrain-") and len(first) == len("data,pretrain-") + 8
    assert group("seed=1", "data=fine,fine_coarse", "pretrain=none,imagenet", "rerun=true", "data.num_workers=2") == (
        "data,pretrain-" + first[-8:]
    )
    assert group("data=fine,fine_coarse", "pretrain=none,imagenet", "seed=2") != first
    assert group("data.num_workers=0,1") != group("data.num_workers=0,2")
    assert len(group(*(f"model.setting_{number}=1,2" for number in range(50)))) < 128


def test_job_is_the_run_of_the_same_config_in_whatever_way_it_is_carried_out(tmp_path, monkeypatch):
    names = iter("abcdefgh")

    def add(status, *overrides, **settings):
        return make_run(tmp_path / "outputs" / "streets" / next(names), *overrides, status=status, **settings)

    def found(*overrides):
        with job(f"paths.output_dir={tmp_path / 'outputs'}", *overrides) as config:
            earlier = earlier_run(config)
            return earlier and (earlier.folder.name, earlier.record["status"])

    assert found() is None
    add("failed", epochs=None)
    assert found() is None, "it saved no checkpoint"
    add("failed")
    assert found() == ("b", "failed")
    assert found("data.lr=0.2") is None
    assert found("seed=1") is None
    assert found("data.num_workers=3", "data.store=off", "trainer.compile=true", "logger=wandb") == ("b", "failed")
    lock = take(add("running") / "run.lock")
    assert found() == ("c", "running")
    lock.release()
    assert found() == ("c", "failed")
    add("finished", "data.num_workers=1")
    assert found() == ("d", "finished")
    told = {"folder": str(tmp_path), "group": "g", "swept": ["data.num_workers"]}
    monkeypatch.setenv("FASTSCNN_MULTIRUN", json.dumps(told))
    assert found("data.num_workers=1") == ("d", "finished")
    assert found("data.num_workers=2") is None, "what is swept counts"
