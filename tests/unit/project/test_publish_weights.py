"""What benchmarks/publish_weights.py says of a network: where its temperature and its start come from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def publish(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "publish_weights", raising=False)
    import publish_weights

    return publish_weights


def run_of(folder, **overrides):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(folder.name.encode())
    record = {"id": "0", "name": "run", "status": "finished", "choices": {}, "metrics": {}}
    record |= {"overrides": {f"data.{key}": value for key, value in overrides.items()}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_the_temperature_is_the_geometric_mean_of_those_of_the_held_out_drives(publish, monkeypatch, tmp_path):
    drives = {"0016E5": 1.0, "0006R0": 2.0, "0001TP": 4.0}
    runs = {drive: run_of(tmp_path / drive, held_out=drive) for drive in drives}
    evaluations = []

    def evaluate(checkpoint, data, root, split, *settings):
        assert checkpoint.parent not in {run / "checkpoints" for run in runs.values()}, "the run keeps its file"
        evaluations.append((data, root, split, settings))
        return {"calibration": {"temperature": drives[checkpoint.read_bytes().decode()], "ece": 0.01}}

    monkeypatch.setattr(publish, "evaluate", evaluate)
    found = publish.fitted_on_held_out(runs, "camvid", tmp_path)
    assert evaluations == [(None, tmp_path, "val", ("calibrate=true", "pictures=0"))] * 3
    assert found["temperature"] == pytest.approx(2.0)
    assert found["of_each_drive"]["0001TP"] == {"temperature": 4.0, "ece": 0.01}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["no_run"], "no_run holds no run (run.json). Name the folder of a finished run."),
        (["stopped"], "stopped is stopped, not finished. Continue it with resume="),
        (["done", "--held-out", "all"], "all was trained without data.held_out, on all drives. Name a run that was"),
        (["done", "--held-out", "stopped"], "stopped is stopped, not finished."),
        (["done", "--held-out", "one", "two"], "two were trained without the same drive. Name one of them."),
    ],
)
def test_runs_that_cannot_be_published_are_one_sentence_and_nothing_is_written(tmp_path, arguments, said):
    for name in ("done", "all"):
        run_of(tmp_path / name)
    for name in ("one", "two"):
        run_of(tmp_path / name, held_out="0016E5")
    stopped = run_of(tmp_path / "stopped", held_out="0016E5") / "run.json"
    stopped.write_text(stopped.read_text().replace("finished", "stopped"))
    places = [argument if argument.startswith("--") else str(tmp_path / argument) for argument in arguments]
    call = [sys.executable, str(ROOT / "benchmarks" / "publish_weights.py"), places[0], "no_such_network"]
    done = subprocess.run([*call, "--data", "camvid", *places[1:]], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (ROOT / "weights" / "no_such_network").exists()


def test_the_network_that_a_training_began_with_stays_named_when_it_is_published_again(publish, tmp_path):
    file = tmp_path / "camvid_weights.json"
    first = {"sha256": "a" * 64, "metrics": {"test/miou": 0.596}, "training": {"command": "first"}}
    file.write_text(json.dumps(first | {"what": "a network"}))
    record = {"init": {"sha256": "a" * 64}}
    assert publish.begun_with(record, file) == first
    file.write_text(json.dumps({"sha256": "b" * 64, "training": {"command": "second", "begun_with": first}}))
    assert publish.begun_with(record, file) == first
    assert publish.begun_with({"init": {"sha256": "c" * 64}}, file) == {}
    assert publish.begun_with({}, file) == {}
    assert publish.begun_with(record, tmp_path / "none.json") == {}


def test_the_card_names_the_start_and_the_error_with_and_without_the_temperature(publish):
    training = {"command": "train", "minutes": 90.0, "device": "1 x CPU", "seed": 0}
    start = {"sha256": "a" * 64, "metrics": {"test/miou": 0.596}, "training": training | {"command": "earlier"}}
    metrics = {"test/miou": 0.6, "test/accuracy": 0.9, "test/iou/sky": 0.9, "test/iou/pole": 0.2}
    result = {"dataset": "CamVid", "data": "camvid", "sha256": "b" * 64, "metrics": metrics, "training": training}
    plain = publish.card("fast_scnn_camvid", result)
    assert "Begun with" not in plain and "temperature" not in plain
    calibration = {"temperature": 1.25, "split": "held-out drives", "ece_before": 0.046, "ece": 0.021}
    whole = publish.card(
        "fast_scnn_camvid", result | {"calibration": calibration, "training": training | {"begun_with": start}}
    )
    assert "SHA-256 `aaaaaaaaaaaa…`, which has 59.6 % mIoU" in whole and "`earlier` (90.0 minutes, 1 x CPU)" in whole
    assert (
        "temperature 1.25, fitted on held-out drives; expected calibration error on test 2.1 %, without it 4.6 %"
        in whole
    )
