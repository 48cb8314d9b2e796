"""What `auto` stands for in a training on a folder, and what an error about its files names."""

import pytest
from omegaconf import OmegaConf

from fastscnn.data.datamodules.build import build_data
from fastscnn.runs.record import read_record
from fastscnn.training import settle as module
from fastscnn.training.fit import checked_data, fit
from fastscnn.training.settle import batch_of, bytes_per_pixel, crop_of, epochs_of, settle, settle_rate
from fastscnn.utils.errors import RequestError
from helpers import FAST, FOLDER_CLASSES, SEGMENTATION, job, refused, write_folder

pytestmark = pytest.mark.usefixtures("shallow_networks")

TRAINER = {"accelerator": "cpu", "devices": 1, "accumulate_grad_batches": 1, "max_epochs": "auto"}
PLAIN = SEGMENTATION | {"resolution": {"scale": 1.0}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_folder(tmp_path_factory.mktemp("photos"), [f"train/{number}" for number in range(4)], size=(72, 100))
    write_folder(root, ["train/small", "val/a"], size=(40, 48))
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    return root


def asked(root, **data):
    data = {
        "dataset": "folder",
        "root": str(root),
        "crop_size": "auto",
        "batch_size": "auto",
        "max_epochs": "auto",
    } | data
    return PLAIN | {"data": data, "trainer": dict(TRAINER)}


def test_crop_is_of_the_median_size_in_steps_of_32_and_no_larger_than_a_street():
    assert crop_of((360, 480)) == [352, 480]
    assert crop_of((20, 40)) == [20, 32]
    height, width = crop_of((3024, 4032))
    assert height * width <= 1024 * 2048
    assert width / height == pytest.approx(4 / 3, abs=0.05)


def test_epochs_show_as_many_frames_as_camvid_within_bounds():
    assert [epochs_of(frames) for frames in (1, 9, 367, 1000, 10**6)] == [500, 500, 163, 60, 50]


def test_settings_come_from_the_data_and_each_is_printed_with_what_changes_it(root, capsys):
    plain = asked(root)
    settle(plain, plain["data"], {})
    assert plain["data"]["crop_size"] == [64, 96]
    assert plain["data"]["batch_size"] == 4
    assert plain["trainer"]["max_epochs"] == 500
    printed = capsys.readouterr().out
    for setting in ("data.crop_size=[64,96]", "data.crop_size=[H,W]", "data.batch_size=4", "data.batch_size=N"):
        assert setting in printed
    assert "trainer.max_epochs=N" in printed


def test_what_is_set_or_recorded_is_not_chosen(root, capsys):
    plain = asked(root, crop_size=[32, 32], batch_size=2, max_epochs=7)
    settle(plain, plain["data"], {})
    assert (plain["data"]["crop_size"], plain["data"]["batch_size"]) == ([32, 32], 2)
    assert plain["trainer"]["max_epochs"] == 7
    capsys.readouterr()
    plain = asked("/nowhere")
    recorded = {"data.crop_size": [8, 8], "data.batch_size": 6, "trainer.max_epochs": 3}
    settle(plain, plain["data"], recorded)
    assert (plain["data"]["crop_size"], plain["data"]["batch_size"], plain["trainer"]["max_epochs"]) == ([8, 8], 6, 3)
    assert capsys.readouterr().out == ""


def test_batch_is_the_papers_where_memory_and_frames_allow(root, monkeypatch):
    classes = build_data(asked(root)["data"] | {"num_workers": 0}).classes
    plain = asked(root)
    for gibibytes, crop, frames, devices, expected in (
        (None, (1024, 2048), 100, 1, 12),
        (1000, (1024, 2048), 100, 1, 12),
        (1000, (1024, 2048), 9, 1, 8),
        (0.001, (1024, 2048), 100, 1, 2),
        (0.001, (1024, 2048), 100, 4, 8),
    ):
        monkeypatch.setattr(module, "device_memory", lambda kind, size=gibibytes: size and int(size * 2**30))
        plain["trainer"] |= {"devices": devices}
        assert batch_of(plain, classes, frames, crop)[0] == expected


def test_memory_is_what_the_network_keeps(root):
    classes = build_data(asked(root)["data"] | {"num_workers": 0}).classes
    full = bytes_per_pixel(PLAIN, classes)
    assert 100 < full < 1000, "some 70 to 250 numbers of 4 bytes a pixel"
    half = bytes_per_pixel(PLAIN | {"resolution": {"scale": 0.5}}, classes)
    assert half < full / 2


def test_run_records_what_its_settings_stand_for_and_keeps_it_when_it_goes_on(root, tmp_path):
    common = ["data=folder", f"data.root='{root}'", f"data.store='{tmp_path / 'store'}'", "logger=csv", *FAST]
    with job(*common, "data.max_epochs=1", f"paths.run_dir='{tmp_path / 'run'}'") as config:
        fit(config)
    settled = {"data.crop_size": [64, 96], "data.batch_size": 4, "optimizer.lr": 0.045}
    assert read_record(tmp_path / "run")["settled"] == settled
    with job(f"resume='{tmp_path / 'run'}'", "trainer.max_epochs=2") as config:
        fit(config)
    assert read_record(tmp_path / "run")["settled"] == settled


def test_rate_of_a_folder_is_lower_where_the_weights_are_trained_already(capsys):
    """A recorded one stays, and one that is set is taken."""
    rates = {}
    for name, asked in {"scratch": [], "trained": ["init.checkpoint=camvid"], "set": ["optimizer.lr=0.02"]}.items():
        with job("data=folder", "data.root=photos", *asked) as config:
            plain = OmegaConf.to_container(config, resolve=True)
        settle_rate(plain, {})
        rates[name] = plain["optimizer"]["lr"]
        if name != "set":
            assert f"optimizer.lr={rates[name]}" in capsys.readouterr().out
    assert rates["set"] == 0.02
    assert 10 * rates["trained"] < rates["scratch"] == 0.045
    plain["optimizer"]["lr"] = "auto"
    settle_rate(plain, {"optimizer.lr": 0.01})
    assert (plain["optimizer"]["lr"], capsys.readouterr().out) == (0.01, "")


def test_rate_of_another_optimizer_is_not_chosen():
    with job("data=folder", "data.root=photos", "optimizer=adamw", "optimizer.lr=auto", *FAST) as config:
        plain = OmegaConf.to_container(config, resolve=True)
    with refused("optimizer.lr", "auto"):
        checked_data(plain)


@pytest.mark.parametrize("chosen", [["experiment=imagenet_pretrain"], ["data=external", "data.module._target_=a.B"]])
def test_word_auto_is_refused_where_nothing_stands_for_it(chosen):
    asked = [*chosen, "trainer.max_epochs=auto", "trainer.accelerator=cpu"]
    with job(*asked) as config, refused("trainer.max_epochs", "auto"):
        checked_data(OmegaConf.to_container(config, resolve=True))


def test_error_about_a_file_names_the_command_that_looks_at_all(root, tmp_path):
    write_folder(tmp_path, ["train/a", "train/b", "val/c"], size=(40, 48))
    (tmp_path / "classes.yaml").write_text(FOLDER_CLASSES)
    (tmp_path / "images/train/b.jpg").write_bytes(b"no picture")
    with (
        job(
            "data=folder", f"data.root='{tmp_path}'", f"paths.output_dir='{tmp_path / 'o'}'", "logger=csv", *FAST
        ) as config,
        pytest.raises(RequestError) as caught,
    ):
        fit(config)
    assert "b.jpg" in str(caught.value)
    assert f"python src/check_data.py data=folder data.root={tmp_path}" in caught.value.fix
    assert not (tmp_path / "o").exists()
