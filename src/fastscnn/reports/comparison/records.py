"""Runs and evaluations as they lie on disk: their records, and what happened at each validation."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fastscnn.reports.comparison.content import Curve
from fastscnn.runs.record import METRICS, RECORD, STEP, read_record

EVALUATION = "eval.json"
REQUIRED = ("id", "name", "status", "choices", "seed", "metrics")


@dataclass(frozen=True)
class Run:
    """One run: its folder and its record."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def choices(self) -> Mapping[str, str]:
        """Group to option; a group that is younger than the run has its default."""
        return {"resolution": "full", **self.record["choices"]}

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return bool(self.record["status"] == "finished")

    @property
    def place(self) -> str:
        """What it was trained and judged on, for people: numbers of different places are never comparable."""
        return place_of(self.record.get("dataset"), str(self.choices.get("data", "?")))

    @property
    def minutes(self) -> float | None:
        """How long it took, by the clock."""
        started, finished = self.record.get("started"), self.record.get("finished")
        if not started or not finished:
            return None
        return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds() / 60

    def metric(self, name: str, which: str = "best") -> float | None:
        """A metric of the best validation (and its test), or of the last one; None where there is none."""
        value = self.record["metrics"].get(which, {}).get(name)
        return None if value is None else float(value)

    @cached_property
    def values(self) -> dict[str, str]:
        """Everything that runs can be filtered and grouped by: key to text."""
        flat = dict(_flat(self.record))
        settings = {key: str(value) for key, value in self.record.get("overrides", {}).items()}
        return {**flat, **settings, **self.choices, "seed": str(self.record["seed"]), "place": self.place}

    def curve(self, metric: str) -> Curve:
        """The metric at each validation, percent, over epochs and steps done; a half-written last row is left out.

        Raises:
            ValueError: `metrics.csv` is not what we write.
            IndexError: A row is too short.
        """
        path = self.folder / METRICS
        if not path.exists():
            return Curve((), (), ())
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader([file.readline()]), [])
            if metric not in header or STEP not in header or "epoch" not in header:
                return Curve((), (), ())
            place, step, epoch = header.index(metric), header.index(STEP), header.index("epoch")
            points = {}
            for line in file:
                if not line.endswith("\n"):
                    break
                # Most rows are of training: only the cells up to the metric are looked at, unless it is there.
                if line.split(",", place + 1)[place].strip():
                    cells = line.rstrip("\n").split(",")
                    points[float(cells[step])] = (float(cells[epoch]) + 1, 100 * float(cells[place]))
        ordered = sorted(points.items())
        return Curve([e for _, (e, _) in ordered], [s for s, _ in ordered], [v for _, (_, v) in ordered])


@dataclass(frozen=True)
class Evaluation:
    """One `eval.py`: its folder, what it found, and the run whose checkpoint it judged, where that is known."""

    folder: Path
    content: Mapping[str, Any]
    run: str | None

    @property
    def skip(self) -> str:
        """`keep` or `zero`."""
        return str(self.content.get("model", {}).get("skip", "keep"))

    @property
    def resolution(self) -> str:
        """`full`, `half`, `quarter`."""
        return str(self.content.get("resolution", "full"))

    def judged(self, run: Run) -> bool:
        """Whether it judged this run, and on the data that the run was trained on."""
        if self.run != run.record["id"]:
            return False
        if dataset := self.content.get("dataset"):
            return place_of(dataset, "") == run.place
        own = run.record.get("dataset") or {"name": run.choices.get("data")}
        return bool(self.content.get("data", own["name"]) == own["name"])  # an older one tells the name alone

    def miou(self, split: str) -> float | None:
        """Class mIoU on a split, from 0 to 1; None where another was judged."""
        value = self.content["metrics"].get(f"{split}/miou")
        return None if value is None else float(value)


def place_of(dataset: Mapping[str, Any] | None, chosen: str) -> str:
    """A data set as people call it, from what a record says of it, or else from the option that was chosen."""
    name = str((dataset or {}).get("name", chosen))
    if (dataset or {}).get("synthetic") or name == "streets":
        return "synthetic streets"
    if name in ("fine", "fine_coarse"):  # an older record does not tell Cityscapes from streets in its layout
        return "Cityscapes" if dataset else f"{name} (unknown data)"
    return {"camvid": "CamVid", "imagenet": "ImageNet"}.get(name, name)


def read_all(folders: Iterable[Path]) -> tuple[list[Run], list[Evaluation], list[str]]:
    """Every run and evaluation below some folders, oldest first, and a sentence for each that cannot be read."""
    runs: dict[str, Run] = {}
    evaluations: list[Evaluation] = []
    warnings: list[str] = []
    for path in sorted({file.resolve() for folder in folders for file in _record_files(folder)}):
        try:
            if path.name == RECORD:
                record = read_record(path.parent)
                missing = [key for key in REQUIRED if key not in record]
                if missing:
                    raise ValueError(f"it has no {', '.join(missing)}")
                _check_metrics(record["metrics"])
                run = Run(path.parent, record)
                _ = int(record["seed"]), run.values, run.minutes
                runs[record["id"]] = run
            else:
                evaluations.append(_evaluation(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.append(f"{path} cannot be read and is left out ({type(error).__name__}: {error}).")
    by_folder = {run.folder: run.record["id"] for run in runs.values()}
    known = [
        Evaluation(e.folder, e.content, e.run or by_folder.get(Path(e.content["checkpoint"]).parent.parent))
        for e in evaluations
    ]
    return (
        sorted(runs.values(), key=lambda run: (run.record.get("started") or "", run.record["id"])),
        sorted(known, key=lambda evaluation: str(evaluation.content.get("finished"))),
        warnings,
    )


def _evaluation(path: Path) -> Evaluation:
    content = json.loads(path.read_text(encoding="utf-8"))
    _check_metrics({"metrics": content["metrics"]})
    Path(content["checkpoint"])
    evaluation = Evaluation(path.parent, content, content.get("run"))
    _ = evaluation.skip, list(content.get("pictures", ()))
    return evaluation


def _check_metrics(found: Mapping[str, Mapping[str, float | None]]) -> None:
    for metrics in found.values():
        for value in metrics.values():
            float(value or 0)


def _record_files(folder: Path) -> Iterator[Path]:
    """The records below a folder; what lies inside a run's folder is not searched."""
    for parent, folders, files in os.walk(folder):
        found = [name for name in (RECORD, EVALUATION) if name in files]
        if found:
            folders.clear()
            yield from (Path(parent) / name for name in found)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif not isinstance(value, Sequence) or isinstance(value, str):
        yield prefix, str(value)
