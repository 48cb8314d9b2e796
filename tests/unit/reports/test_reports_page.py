"""The page of a comparison as text: self-contained, escaped, complete; and what its parts are made from."""

import base64
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from fastscnn.reports.comparison import compare
from fastscnn.reports.comparison.compare import build
from fastscnn.reports.comparison.page import page
from fastscnn.reports.comparison.panels import split_panels
from fastscnn.reports.comparison.records import read_all
from fastscnn.reports.comparison.write import show
from helpers import COMPARE_SETTINGS, CONF, write_evaluation, write_panels, write_run

ROWS = ["9,0.5,,", "10,,0,0.25", "20,,1,0.5"]


def comparison(root):
    runs, evaluations, warnings = read_all([root])
    return build(runs, evaluations, COMPARE_SETTINGS, warnings)[0]


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))


def test_page_asks_nothing_of_the_network_and_escapes_what_records_say(tmp_path):
    write_run(tmp_path, 0.6, rows=ROWS)
    for file in tmp_path.rglob("run.json"):
        file.write_text(file.read_text().replace('"name": "fine"', '"name": "<img src=x onerror=alert(1)></script>"'))
    text = page(comparison(tmp_path))
    assert "default-src 'none'" in text
    assert "<img src=x" not in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', text)


def test_data_of_the_page_is_each_runs_validations(tmp_path):
    write_run(tmp_path, 0.5, rows=ROWS)
    write_run(tmp_path, 0.5, 0, pretrain="imagenet", rows=[f"{10 * i},,{i},0.{i + 1}25" for i in range(1, 8)])
    first, second = sorted(data_of(page(comparison(tmp_path)))["runs"], key=lambda run: run["dashed"])
    assert (first["steps"], first["epochs"], first["values"]) == ([10, 20], [1, 2], [2500, 5000])
    assert (second["dashed"], first["dashed"]) == (True, False)
    assert second["steps"] == {"first": 10, "step": 10, "count": 7}
    assert second["values"] == [2250, 3250, 4250, 5250, 6250, 7250, 8250]


def test_broken_metrics_are_named_and_a_torn_last_row_is_left_out(tmp_path):
    write_run(tmp_path, 0.5, 0, rows=ROWS)
    write_run(tmp_path, 0.5, 1, rows=[*ROWS, "30,,2,zzz"])
    for file in tmp_path.rglob("metrics.csv"):
        if "00000000" in str(file):
            file.write_text(file.read_text() + "30,,2,0.")
    found = comparison(tmp_path)
    (warning,) = found.warnings
    assert "00000001" in warning
    assert {view.cells["seed"]: list(view.curve.values) for view in found.runs} == {"0": [25, 50], "1": []}


def test_running_and_superseded_runs_do_not_count(tmp_path):
    for started, status in ((1, "finished"), (2, "finished"), (3, "failed")):
        write_run(tmp_path, 0.5, started=started, status=status, rows=ROWS)
    views = comparison(tmp_path).runs
    assert [(view.status, view.counts) for view in views] == [
        ("failed", False),
        ("finished", True),
        ("finished", False),
    ]
    assert {view.group for view in views} == {"fine"}


def test_gallery_shows_the_same_frame_with_and_without_the_skip_connection(tmp_path):
    run = write_run(tmp_path, 0.5)
    folder = next(tmp_path.rglob("run.json")).parent
    red, green, blue, white = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)
    for epoch, last in ((1, white), (12, blue)):
        write_panels(folder / "images" / f"a_b_epoch{epoch:04d}.png", [red, green, last])
        write_panels(folder / "images" / f"other_epoch{epoch:04d}.png", [red, green, last])
    write_evaluation(tmp_path, run, 0.4, skip="zero")
    evaluation = next(tmp_path.rglob("eval.json"))
    content = json.loads(evaluation.read_text()) | {"pictures": ["images/a_b.png"]}
    evaluation.write_text(json.dumps(content))
    write_panels(evaluation.parent / "images" / "a_b.png", [red, green, white])
    found = comparison(tmp_path)
    (row,) = found.gallery
    assert row.frame == "a_b"
    shown = [base64.b64decode(data) for data in re.findall(r"data:image/webp;base64,([^\"]+)", page(found))]
    colours = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).mean((0, 1)) for data in shown]
    assert np.allclose(colours, [red, green, blue, white], atol=8)
    assert "0.0 % of pixels agree" in page(found)


def test_picture_that_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    assert split_panels(tmp_path / "torn.png") is None


@pytest.mark.parametrize("text", ["metrics", "best"])
def test_record_whose_metrics_are_no_numbers_is_left_out(tmp_path, text):
    write_run(tmp_path, 0.5)
    file = next(tmp_path.rglob("run.json"))
    broken = {"metrics": "gone", "best": {"best": {"val/miou": "high"}, "last": {}}}[text]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"metrics": broken}))
    runs, _, warnings = read_all([tmp_path])
    assert (runs, len(warnings)) == ([], 1)


def test_layout_of_cityscapes_without_a_recorded_dataset_is_not_called_cityscapes(tmp_path):
    write_run(tmp_path, 0.5)
    file = next(tmp_path.rglob("run.json"))
    record = json.loads(file.read_text())
    del record["dataset"]
    file.write_text(json.dumps(record))
    assert read_all([tmp_path])[0][0].place == "fine (unknown data)"


def test_reports_do_without_torch():
    heavy = "any(name in sys.modules for name in ('torch', 'pytorch_lightning'))"
    code = f"import sys, fastscnn.reports.comparison.compare; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": "src"}, timeout=300).returncode == 0


def test_two_folders_that_hold_the_same_run_are_named(tmp_path):
    write_run(tmp_path / "here", 0.5)
    write_run(tmp_path / "copied", 0.5)
    runs, _, warnings = read_all([tmp_path])
    assert len(runs) == 1
    (warning,) = warnings
    assert "hold the same run, 00000000" in warning


def test_forest_and_heat_map_are_differences_to_the_baseline(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, 0.60 + seed / 100, seed, started=seed)
        write_run(tmp_path, 0.50 + seed / 50, seed, started=2 + seed, skip="zero")
    for file in tmp_path.rglob("run.json"):
        road = "0.9" if "skip_zero" in str(file) else "0.8"
        file.write_text(file.read_text().replace('"epoch": 3', f'"epoch": 3, "val/iou/road": {road}'))
    found = comparison(tmp_path)
    (gap,) = found.gaps
    assert (gap.label, gap.baseline) == ("fine-skip_zero", "fine")
    assert gap.mean == pytest.approx(-9.5)
    assert gap.interval[0] < -9.5 < gap.interval[1]
    (table,) = [table for table in found.tables if table.heat]
    assert table.rows == [["fine, IoU %", "80.0"], ["fine-skip_zero", "+10.0"]]
    assert 'class="number heat better" style="--share:70%">+10.0' in page(found)


def test_terminal_never_breaks_a_label(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    write_run(tmp_path, 0.5, skip="zero", activation="relu6", resolution="quarter")
    show(comparison(tmp_path))
    assert "fine-skip_zero-activation_relu6-resolution_quarter" in capsys.readouterr().out


def test_watching_renews_the_page_until_no_run_is_going_on(tmp_path, monkeypatch, capsys):
    """An evaluation that ends meanwhile renews it too; a run that the filter leaves out does not keep it going."""
    watched = write_run(tmp_path, 0.5, rows=ROWS)
    (file,) = tmp_path.glob(f"*/*{watched}/run.json")
    (other,) = tmp_path.glob(f"*/*{write_run(tmp_path, 0.4, rows=ROWS, skip='zero')}/run.json")
    other.write_text(json.dumps(json.loads(other.read_text()) | {"status": "running"}))
    done = json.loads(file.read_text())
    file.write_text(json.dumps(done | {"status": "running"}))
    monkeypatch.setattr(
        "fastscnn.reports.comparison.records.read_record", lambda folder: json.loads((folder / "run.json").read_text())
    )
    pages = []

    def sleep(seconds):
        pages.append((tmp_path / "page" / "index.html").read_text())
        if len(pages) == 1:
            write_evaluation(tmp_path, watched, 0.7, skip="zero")
        else:
            file.write_text(json.dumps(done))

    monkeypatch.setattr(compare.time, "sleep", sleep)
    settings = OmegaConf.load(CONF / "compare.yaml")
    asked = {"runs": str(tmp_path), "output": str(tmp_path / "page"), "watch": True, "filter": {"skip": "keep"}}
    compare.watch(OmegaConf.merge(settings, asked))
    assert len(pages) == 2
    assert 'http-equiv="refresh"' in pages[0]
    assert 'http-equiv="refresh"' not in (tmp_path / "page" / "index.html").read_text()
    printed = capsys.readouterr().out
    assert printed.count("The page: ") == 3
    assert "not renewed any more" in printed
