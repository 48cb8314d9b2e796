"""metrics.csv: appended row by row, columns added as metrics appear, an old file continued."""

import csv

import pytest

from fastscnn.runs.metrics_csv import MetricsCSV, cut_back, read_rows


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_disk_at_once_and_new_metrics_get_a_column(tmp_path):
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 2.0}, step=1)
    assert rows(tmp_path / "metrics.csv") == [{"trainer/global_step": "1", "train/loss": "2.0"}]
    logger.log_metrics({"val/miou": 0.5, "epoch": 0}, step=2)
    first, second = rows(tmp_path / "metrics.csv")
    assert first == {"trainer/global_step": "1", "train/loss": "2.0", "val/miou": "", "epoch": ""}
    assert second == {"trainer/global_step": "2", "train/loss": "", "val/miou": "0.5", "epoch": "0"}


def test_existing_file_is_continued(tmp_path):
    MetricsCSV(tmp_path / "metrics.csv").log_metrics({"a": 1.0}, step=1)
    MetricsCSV(tmp_path / "metrics.csv").log_metrics({"b": 2.0, "a": 3.0}, step=2)
    assert [(row["a"], row["b"]) for row in rows(tmp_path / "metrics.csv")] == [("1.0", ""), ("3.0", "2.0")]


def test_nan_is_an_empty_cell(tmp_path):
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"a": float("nan"), "b": 1.0}, step=0)
    assert rows(tmp_path / "metrics.csv")[0]["a"] == ""


def test_row_that_a_kill_cut_within_its_last_cell_is_no_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("trainer/global_step,loss\n1,0.25\n2,0.2")
    assert read_rows(path) == (["trainer/global_step", "loss"], [{"trainer/global_step": "1", "loss": "0.25"}])


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("rows_then", [2, None])
@pytest.mark.parametrize("first", [1, 0], ids=["now", "as earlier versions counted"])
def test_rows_after_the_checkpoint_are_cut_out(tmp_path, first, rows_then, finished):
    path = tmp_path / "metrics.csv"
    lines = [f"3,{first},1.5,", f"7,{first + 1},1.4,", f"8,{first + 2},1.3,", f"8,{first + 2},,0.5", "9,2,1."]
    path.write_text("\n".join(["trainer/global_step,epoch,train/loss,test/miou", *lines]))
    cut_back(path, rows=rows_then, epochs=2, finished=finished, first_epoch=first)
    stays = [(row["epoch"], row["train/loss"]) for row in rows(path)]
    assert stays == [("1", "1.5"), ("2", "1.4"), *([(str(first + 2), "")] if finished else [])]
    logger = MetricsCSV(path)
    assert logger.rows == len(stays)
    logger.log_metrics({"new": 1.0}, step=8)
    assert logger.rows == len(rows(path)) == len(stays) + 1
