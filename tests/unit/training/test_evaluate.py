"""An evaluation loses nothing to a folder or a disk that cannot be written."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from fastscnn.cli.launch import report
from fastscnn.data.datamodules import segmentation
from fastscnn.data.datasets.cityscapes import fine_frames
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.sources import DATASETS, Source
from fastscnn.inference.shipped import shipped_folder
from fastscnn.reports.evaluation.page import write_page
from fastscnn.training import evaluate as evaluation
from fastscnn.training.calibrate import check_calibrate
from fastscnn.training.calibration import TEMPERATURES, TemperatureFit
from fastscnn.training.evaluate import evaluate
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import UNFINISHED, WriteError
from helpers import SEGMENTATION, files_in, refused, save_module, write_cityscapes

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Of `eval.py` as a person has them, with a checkpoint and a tiny data set."""
    folder = tmp_path_factory.mktemp("eval")
    data = {
        "dataset": "fine",
        "root": str(write_cityscapes(folder / "data", val=3)),
        "crop_size": [64, 128],
        "frame_size": [32, 64],
        "batch_size": 1,
        "num_workers": "auto",
        "store": "auto",
    }
    trainer = {"precision": "32-true"}
    torch.manual_seed(0)
    module = Segmentation({**SEGMENTATION, "data": data, "trainer": trainer}, CITYSCAPES)
    save_module(module, folder / "best.ckpt")
    return {
        "checkpoint": str(folder / "best.ckpt"),
        "split": "val",
        "weights": None,
        "backend": "torch",
        "save_predictions": None,
        "pictures": 4,
        "data": {"root": None, "num_workers": "auto", "store": None},
        "trainer": {"accelerator": "cpu", "precision": None},
        "paths": {"run_dir": None, "output_dir": "outputs"},
    }


def evaluated(settings, **changes):
    return evaluate(OmegaConf.create(settings | changes), write_page)


@pytest.fixture
def fill(monkeypatch):
    """Let the disk that folders of these names lie on have no room from now on."""

    def fill(*folders):
        def write(path, data):
            if path.parent.name not in folders:
                return real(path, data)
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        real = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", write)

    return fill


@pytest.mark.parametrize(
    ("changes", "key", "found"),
    [
        ({"paths": {"run_dir": "/proc/self/new", "output_dir": "outputs"}}, "paths.run_dir", "/proc/self/new"),
        ({"paths": {"run_dir": "there", "output_dir": "outputs"}}, "paths.run_dir", "there exists"),
        ({"paths": {"run_dir": None, "output_dir": "/proc/self"}}, "paths.output_dir", "/proc/self"),
        ({"trainer": {"accelerator": "cpu", "precision": None, "devices": 2}}, "trainer.devices", "on one device"),
        ({"save_predictions": "/proc/self/new"}, "save_predictions", "/proc/self/new"),
        ({"save_predictions": "file"}, "save_predictions", "save_predictions=file"),
    ],
)
def test_wrong_request_is_refused_before_anything_is_computed(settings, tmp_path, monkeypatch, changes, key, found):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(evaluation, "_trainer", lambda *args: pytest.fail("evaluated before it was refused"))
    with refused(key, found):
        evaluated(settings, **changes)
    assert sorted(os.listdir(tmp_path)) == ["file", "there"]


def test_disk_that_is_full_for_the_predictions_leaves_no_empty_files_and_keeps_the_scores(
    settings, tmp_path, monkeypatch, fill, capsys
):
    monkeypatch.chdir(tmp_path)
    fill("predictions")
    with pytest.raises(WriteError) as caught:
        evaluated(settings, save_predictions="predictions", paths={"run_dir": "evaluation", "output_dir": "outputs"})
    assert not list((tmp_path / "predictions").iterdir())
    assert "class mIoU" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation" / "eval.json").read_text())["frames"] == 3
    assert report(caught.value) == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: predictions/") and said.endswith("(No space left on device)\n")
    assert len(said.splitlines()) == 1


def test_what_a_killed_evaluation_left_half_written_is_removed_by_the_next(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / f"{UNFINISHED}0123456789ab.png").touch()
    evaluated(settings, save_predictions="predictions", paths={"run_dir": "evaluation", "output_dir": "outputs"})
    assert len(files_in(tmp_path / "predictions")) == 3


def test_disk_that_is_full_for_the_pictures_keeps_the_scores(settings, tmp_path, monkeypatch, fill, capsys):
    monkeypatch.chdir(tmp_path)
    fill("images")
    with pytest.raises(WriteError, match="No space left on device"):
        evaluated(settings, paths={"run_dir": "evaluation", "output_dir": "outputs"})
    assert "class mIoU" in capsys.readouterr().out
    assert files_in(tmp_path / "evaluation") == ["eval.json"]


@pytest.mark.parametrize("dataset", ["fine", "fine_coarse", "streets", "camvid", "mine"])
def test_predictions_have_the_names_of_their_data_set_whatever_its_classes_say(
    dataset, settings, tmp_path, monkeypatch
):
    """A data set of one's own with Cityscapes' classes, categories included, has nothing of its file names."""
    monkeypatch.setitem(DATASETS, "mine", Source(replace(CITYSCAPES, name="Mine"), fine_frames))
    official = dataset in ("fine", "fine_coarse", "streets")
    monkeypatch.setitem(DATASETS, dataset, DATASETS[dataset]._replace(classes=CITYSCAPES, frames=fine_frames))
    root = Path(torch.load(settings["checkpoint"], weights_only=True)["fastscnn"]["config"]["data"]["root"])
    data = {"dataset": dataset, "root": str(root), "crop_size": [64, 128], "batch_size": 1, "num_workers": 0}
    monkeypatch.setattr(segmentation, "generate_streets", lambda root, spec: None)
    predictions = tmp_path / "predictions"
    evaluated(settings, data=data, save_predictions=str(predictions), paths={"run_dir": str(tmp_path / "eval")})
    names = {frame.name for frame in fine_frames(root, "val")}
    assert {path.name for path in predictions.iterdir()} == {
        f"{name}_pred_labelIds.png" if official else f"{name}.png" for name in names
    }


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_another_backend_gives_the_same_scores_and_stands_in_the_record(settings, tmp_path, backend):
    if backend != "auto":
        pytest.importorskip(backend)
    found = {}
    for name in ("torch", backend):
        folder = tmp_path / name
        evaluated(settings, backend=name, report=True, paths={"run_dir": str(folder), "output_dir": "outputs"})
        found[name] = json.loads((folder / "eval.json").read_text())
        curve = (folder / "report.html").read_text().count("<polyline")
        assert curve == ("calibration" in found[name]) == (name == "torch")
    assert "backend" not in found["torch"]
    assert found[backend]["backend"] == backend
    for name, value in found["torch"]["metrics"].items():
        assert found[backend]["metrics"][name] == pytest.approx(value, abs=1e-3, nan_ok=True), name


@pytest.mark.parametrize("backend", ["tvm", "triton"])
def test_a_backend_that_does_not_run_is_refused(settings, backend):
    with pytest.raises(RequestError) as error:
        evaluated(settings, backend=backend)
    assert error.value.key == "backend"


@pytest.fixture
def calibrating(settings, tmp_path, monkeypatch):
    """Evaluates a checkpoint of its own, whose logits are multiplied, and gives what `eval.json` says."""
    monkeypatch.chdir(tmp_path)
    own = settings | {"checkpoint": str(tmp_path / "own.ckpt"), "pictures": 0}

    def scaled(by):
        content = torch.load(settings["checkpoint"], weights_only=True)
        for name in ("weight", "bias"):
            content["state_dict"][f"network.classifier.3.{name}"] *= by
        torch.save(content, own["checkpoint"])

    def found(name, **changes):
        evaluated(own, paths={"run_dir": name, "output_dir": "outputs"}, **changes)
        return json.loads((tmp_path / name / "eval.json").read_text())

    def kept():
        return torch.load(own["checkpoint"], weights_only=True)["fastscnn"]["config"].get("calibration")

    return scaled, found, kept


def test_calibration_is_measured_fitted_and_kept_in_the_file(calibrating, capsys):
    scaled, found, kept = calibrating
    scaled(100)  # sure of what is wrong
    before, fitted, after = found("before"), found("fitted", calibrate=True, report=True), found("after")
    assert fitted["report"]["bootstrap"]["frames"] == 3, "both evaluations have the same frames"
    assert "report" not in after
    assert not Path("after/report.html").exists()
    assert before["calibration"]["temperature"] == 1
    assert fitted["calibration"] == after["calibration"]
    assert kept()["temperature"] == after["calibration"]["temperature"] > 2
    assert kept()["ece_before"] == before["calibration"]["ece"] > kept()["ece"] == after["calibration"]["ece"]
    assert before["metrics"] == pytest.approx(after["metrics"], abs=1e-3, nan_ok=True)
    assert "expected calibration error:" in capsys.readouterr().out


def test_temperature_at_the_highest_that_is_tried_is_told(calibrating, capsys):
    scaled, found, kept = calibrating
    scaled(100)
    found("fitted", calibrate=True)
    assert kept()["temperature"] == TEMPERATURES[-1]
    assert "a temperature of 8 is the highest that is tried" in capsys.readouterr().out


def test_temperature_that_makes_the_error_greater_is_not_kept(calibrating, monkeypatch, capsys):
    scaled, found, kept = calibrating
    scaled(20)
    first = found("before")["calibration"]
    monkeypatch.setattr(TemperatureFit, "temperature", lambda self: TEMPERATURES[0])
    fitted = found("fitted", calibrate=True)["calibration"]
    assert kept() is None
    assert fitted == first
    text = capsys.readouterr().out
    assert "a temperature of 0.25 is the lowest that is tried" in text
    assert "with the fitted temperature of 0.25: this is not kept" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "train"}, "was trained on"),
        ({"backend": "compile"}, "backend=compile"),
        ({"resolution": {"name": "half", "scale": 0.5}}, "resolution=half"),
    ],
)
def test_calibration_is_refused_where_it_would_not_hold(settings, tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    before = Path(settings["checkpoint"]).read_bytes()
    with pytest.raises(RequestError) as error:
        evaluated(settings, calibrate=True, **changes)
    assert error.value.key == "calibrate"
    assert words in str(error.value)
    assert Path(settings["checkpoint"]).read_bytes() == before


@pytest.mark.parametrize(("frame", "scale"), [([64, 128], None), ([40, 90], None), ([32, 64], 0.75), ([16, 32], 0.375)])
def test_frames_that_predict_would_shrink_are_named(settings, tmp_path, monkeypatch, capsys, frame, scale):
    """The frames are 64x128; what is recommended is what it says, the network at 1.5 times its training's frames."""
    monkeypatch.chdir(tmp_path)
    content = torch.load(settings["checkpoint"], weights_only=True)
    content["fastscnn"]["config"]["data"]["frame_size"] = frame
    torch.save(content, tmp_path / "own.ckpt")
    evaluated(settings | {"checkpoint": str(tmp_path / "own.ckpt"), "pictures": 0})
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("The frames have 128x64 pixels")]
    assert len(said) == (scale is not None)
    if scale:
        assert said[0].endswith(f"resolution=full resolution.scale={scale} evaluates about that.")


def test_calibration_on_what_was_trained_on_is_refused_as_any_data(settings, tmp_path, monkeypatch, capsys):
    """Read as fine_coarse, and without them at hand, of which a sentence tells."""
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "own.ckpt"
    shutil.copy(settings["checkpoint"], checkpoint)
    own = settings | {"checkpoint": str(checkpoint), "pictures": 0}
    content = torch.load(checkpoint, weights_only=True)
    trained = content["fastscnn"]["config"]["data"]
    trained["root"] = str(write_cityscapes(tmp_path / "data", train_extra=1))
    torch.save(content, checkpoint)
    data = trained | {"dataset": "fine_coarse"}
    with pytest.raises(RequestError) as error:
        evaluated(own, calibrate=True, split="train", data=data)
    assert "was trained on 3 of these frames" in str(error.value), "of those with coarse labels, none"
    assert "not at hand" not in capsys.readouterr().out

    trained |= {"dataset": "camvid", "root": str(tmp_path / "gone")}
    torch.save(content, checkpoint)
    evaluated(own, calibrate=True, split="val", data=data)
    assert "not all are at hand (data=camvid not)" in capsys.readouterr().out


@pytest.mark.parametrize("named", ["streets", str(shipped_folder("streets"))])
def test_network_that_comes_with_the_package_is_not_calibrated_in_place(settings, tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as error:
        check_calibrate(settings | {"checkpoint": named, "calibrate": True}, None, None)
    assert error.value.key == "calibrate"
    assert str(shipped_folder("streets")) in error.value.fix
