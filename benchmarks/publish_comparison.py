"""Write a comparison of runs into results/: its tables, every run behind them, and a picture of the page.

python benchmarks/publish_comparison.py NAME RUNS_DIR...

The picture needs Chromium on the PATH.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import RESULTS, answer
from hydra import compose, initialize_config_dir
from playwright.sync_api import sync_playwright

from fastscnn.cli.launch import CONF
from fastscnn.reports.comparison.compare import compare
from fastscnn.reports.comparison.groups import group_runs
from fastscnn.reports.comparison.records import Run, read_all
from fastscnn.utils.machine import describe_machine

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def facts(run: Run) -> dict[str, object]:
    record = run.record
    curve = run.curve("val/miou")
    return {
        "command": record["command"],
        "choices": {name: record["choices"].get(name) for name in ("data", "skip", "activation", "pretrain")}
        | {"resolution": run.choices["resolution"], "experiment": record["choices"].get("experiment")},
        "seed": record["seed"],
        "place": run.place,
        "commit": (record.get("git") or {}).get("commit"),
        "device": record["device"],
        "minutes": round(run.minutes or 0, 1),
        "frames_seen": {k: v for k, v in record["metrics"]["last"].items() if k.startswith("train/frames/")},
        "curve": {"step": list(curve.steps), "val/miou %": [round(value, 2) for value in curve.values]},
        "last": {k: v for k, v in record["metrics"]["last"].items() if k.startswith(("val/top", "train/top"))},
        "best": {k: v for k, v in record["metrics"]["best"].items() if k.count("/") == 1},
    }


def screenshot(page: Path, picture: Path) -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1500})
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]")
        tab.screenshot(path=picture)
        browser.close()


def main(name: str, places: Sequence[Path]) -> None:
    folders = [str(place.resolve()) for place in places]
    output = Path(tempfile.mkdtemp())
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("compare", [f"runs={json.dumps(folders)}", f"output={output}"])
    page = compare(config)
    runs = read_all(map(Path, folders))[0]
    newest = [run for group in group_runs(runs) for run in group.runs.values()]
    versions = newest[0].record["versions"]
    content = {
        "command": f"python benchmarks/publish_comparison.py {name} RUNS_DIR...",
        "machine": describe_machine(),
        "versions": versions,
        "runs": [facts(run) for run in newest],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    text = (output / "comparison.md").read_text()
    (RESULTS / f"{name}.md").write_text(text)
    if BROWSER:
        screenshot(page, RESULTS / f"{name}_page.png")
    print(f"{RESULTS / name}.json, .md and _page.png are written; the page itself: {page}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUNS_DIR")
    chosen = parser.parse_args()
    answer(main, chosen.name, chosen.folders)
