"""`python src/train.py` as a user calls it."""

import csv
import json
import re
import time

import cv2
import pytest
import torch

from fastscnn.runs.record import read_record
from helpers import FAST, RUN_KEYS, write_cityscapes


def record(folder):
    return json.loads((folder / "run.json").read_text())


def runs(output_dir):
    return sorted(path.parent for path in output_dir.rglob("run.json"))


def test_finished_run_holds_everything_that_the_design_lists(trained):
    _, folder = trained
    data = record(folder)
    assert set(RUN_KEYS) <= set(data)
    assert data["status"] == "finished"
    assert data["choices"]["data"] == "fine"
    assert data["checkpoints"] == {"best": "checkpoints/best.ckpt", "last": "checkpoints/last.ckpt"}
    assert data["metrics"]["best"]["val/miou"] >= data["metrics"]["last"]["val/miou"]
    assert {"config.yaml", "hydra.yaml", "overrides.yaml"} == {path.name for path in (folder / ".hydra").iterdir()}
    assert list((folder / "wandb").glob("offline-run-*")), "without a key W&B logs offline"
    assert data["wandb_id"] == data["id"]


def test_last_line_names_the_folder_and_the_screen_shows_what_a_person_wants(trained):
    done, folder = trained
    lines = done.stdout.strip().splitlines()
    assert str(folder) in lines[-1]
    assert "1,137,795 parameters" in done.stdout.replace("\n", " ")
    assert "6.71 G" in done.stdout
    assert len([line for line in lines if "val/miou" in line]) == 3
    assert "motorcycle" in done.stdout
    assert "class mIoU" in done.stdout


def test_output_that_is_no_terminal_says_at_any_time_how_far_the_run_is(trained):
    lines = trained[0].stdout.splitlines()
    for pattern in (
        r"epoch \d of 3: step \d of 6, loss \d+\.\d{3}, \d+\.\d images/s, .+ left(; .+)?",
        r"validation of epoch \d: image \d of 2(, .+)?",
    ):
        assert [line for line in lines if re.fullmatch(pattern, line)], pattern


def test_metrics_csv_has_the_curve_of_every_validation(trained):
    with (trained[1] / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/miou"]]
    assert len(rows) == 3
    assert [int(row["trainer/global_step"]) for row in rows] == [2, 4, 6]
    assert max(float(row["val/miou"]) for row in rows) == pytest.approx(
        record(trained[1])["metrics"]["best"]["val/miou"], abs=1e-6
    )


def test_checkpoints_load_with_weights_only(trained):
    for name in ("best", "last"):
        content = torch.load(trained[1] / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["fastscnn"]["config"]["model"]["name"] == "fast_scnn"
    assert content["epoch"] == 2
    assert content["optimizer_states"]


def test_pictures_show_input_truth_and_prediction_side_by_side(trained):
    pictures = sorted((trained[1] / "images").glob("*_epoch0003.png"))
    assert len(pictures) == 2
    assert cv2.imread(str(pictures[0])).shape == (64, 3 * 128, 3)


def test_same_seed_gives_the_same_run_and_another_does_not(run, trained, cityscapes, tmp_path):
    settings = (
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "trainer.max_epochs=3",
        "logger=csv",
        *FAST,
    )
    again = run("train.py", *settings, "paths.run_dir=again", cwd=tmp_path)
    other = run("train.py", *settings, "paths.run_dir=other", "seed=1", cwd=tmp_path)
    assert again.returncode == other.returncode == 0
    loss = [
        record(folder)["metrics"]["last"]["val/accuracy"]
        for folder in (trained[1], tmp_path / "again", tmp_path / "other")
    ]
    assert loss[0] == loss[1] != loss[2]
    assert not (tmp_path / "again" / "wandb").exists()


def test_existing_run_folder_is_never_overwritten(run, trained, cityscapes, tmp_path):
    before = (trained[1] / "run.json").read_text()
    done = run("train.py", "data=fine", f"data.root={cityscapes}", f"paths.run_dir='{trained[1]}'", *FAST, cwd=tmp_path)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (trained[1] / "run.json").read_text() == before


def test_multirun_as_written_gives_distinct_runs(run, cityscapes, tmp_path):
    done = run(
        "train.py",
        "-m",
        "data=fine,fine_coarse",
        "pretrain=none",
        f"data.root={cityscapes}",
        "trainer.max_epochs=1",
        "data.batch_size=4",
        *FAST,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    folders = runs(tmp_path / "outputs")
    assert [folder.parent.name for folder in folders] == ["fine", "fine_coarse"]
    assert len({record(folder)["wandb_id"] for folder in folders}) == 2
    assert [record(folder)["metrics"]["last"]["step"] for folder in folders] == [1, 2]
    joined = record(folders[1])
    assert joined["dataset"]["frames"]["train"] == {"fine": 5, "coarse": 3}
    assert not joined["dataset"]["synthetic"]
    assert joined["overrides"]["trainer.max_epochs"] == "1"
    last = joined["metrics"]["last"]
    assert (last["train/frames/fine"], last["train/frames/coarse"]) == (5, 3)


def test_failing_job_is_told_and_does_not_stop_the_others(run, cityscapes, tmp_path):
    done = run(
        "train.py",
        "-m",
        f"data.root={tmp_path / 'nothing'},{cityscapes}",
        "data=fine",
        "trainer.max_epochs=1",
        "data.batch_size=4",
        "logger=csv",
        *FAST,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "job 0" in done.stderr
    assert "nothing" in done.stderr
    assert [record(folder)["status"] for folder in runs(tmp_path / "outputs")] == ["finished"]


def test_loss_that_is_not_finite_stops_with_step_and_frames_and_keeps_the_last_good_checkpoint(
    run, cityscapes, tmp_path
):
    done = run(
        "train.py",
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "optimizer.lr=1e36",
        "optimizer.power=0",
        "trainer.max_epochs=4",
        "logger=csv",
        *FAST,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "lower optimizer.lr" in done.stderr
    (folder,) = runs(tmp_path / "outputs")
    assert record(folder)["status"] == "failed"
    assert "NonFiniteLoss" in record(folder)["error"]
    assert str(folder.relative_to(tmp_path)) in done.stderr.strip().splitlines()[-1]
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_broken_image_stops_the_run_with_its_name_also_from_a_worker(run, tmp_path):
    root = write_cityscapes(tmp_path / "data", train=4, val=1)
    broken = sorted((root / "leftImg8bit" / "train").rglob("*.png"))[1]
    broken.write_bytes(broken.read_bytes()[:200])
    done = run(
        "train.py",
        "data=fine",
        f"data.root={root}",
        "data.batch_size=2",
        "logger=csv",
        "data.num_workers=1",
        "data.store=off",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert str(broken) in done.stderr
    assert "Traceback" not in done.stderr
    (folder,) = runs(tmp_path / "outputs")
    assert record(folder)["status"] == "failed"


def test_killed_run_reads_as_failed(start, cityscapes, tmp_path):
    process = start(
        "train.py",
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "paths.run_dir=run",
        "trainer.check_val_every_n_epoch=1",
        "logger=csv",
        *FAST,
        cwd=tmp_path,
    )
    folder = tmp_path / "run"
    waited = time.monotonic()
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() - waited < 120
        time.sleep(0.2)
    assert read_record(folder)["status"] == "running"
    process.kill()
    process.wait()
    data = read_record(folder)
    assert (data["status"], data["error"]) == ("failed", "the process was killed")
    assert data["metrics"]["last"]["val/miou"] >= 0
    torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow  # two devices train and are stopped in test_stopped_by_signal.py, with one record as well
def test_two_devices_train_together_and_keep_one_record(run, cityscapes, tmp_path):
    done = run(
        "train.py",
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=4",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "trainer.max_epochs=1",
        "logger=csv",
        "paths.run_dir=outputs/mine",
        *FAST,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = runs(tmp_path / "outputs")
    assert record(folder)["status"] == "finished"
    assert record(folder)["metrics"]["last"]["step"] == 1
    assert record(folder)["metrics"]["last"]["train/frames/fine"] == 4, "frames of both devices, each once"


def test_distributed_multirun_is_refused_with_the_launcher_to_use(run, cityscapes, tmp_path):
    done = run(
        "train.py", "-m", "skip=keep,zero", "data=fine", f"data.root={cityscapes}", "trainer.devices=2",
        "data.batch_size=4", *FAST, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "hydra/launcher=submitit" in done.stderr
    assert not runs(tmp_path / "outputs")


def test_debug_run_of_two_batches_ends_well(run, cityscapes, tmp_path):
    done = run(
        "train.py", "debug=one_batch", "data=fine", f"data.root={cityscapes}", "data.batch_size=2", *FAST, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (folder,) = runs(tmp_path / "outputs")
    assert record(folder)["metrics"]["last"]["step"] == 2
    assert not (folder / "wandb").exists()


def test_missing_test_split_is_told_before_anything_is_trained(run, cityscapes, tmp_path):
    done = run("train.py", "data=fine", f"data.root={cityscapes}", "data.evaluate_test=true", *FAST, cwd=tmp_path)
    assert done.returncode == 2
    assert "leftImg8bit/test" in done.stderr
    assert not (tmp_path / "outputs").exists()
