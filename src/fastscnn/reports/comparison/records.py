"""Runs and evaluations on disk: their records, and the metrics of each validation."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fastscnn.reports.comparison.content import Curve
from fastscnn.runs.record import METRICS, RECORD, STEP, read_record
from fastscnn.utils.errors import RequestError
from fastscnn.utils.plain_files import DamagedFile, read_json

EVALUATION = "eval.json"
UNLISTED = ("settings", "packages")
"""Long parts of a record that are no keys to filter and group by."""
REQUIRED = ("id", "name", "status", "choices", "seed", "metrics")


@dataclass(frozen=True)
class Run:
    """One run: its folder and its record."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def choices(self) -> Mapping[str, str]:
        """Group to option; a group that did not exist when the run started has its default."""
        return {"resolution": "full", "scheduler": "poly", **self.record["choices"]}

    @property
    def finished(self) -> bool:
        """Whether it finished."""
        return bool(self.record["status"] == "finished")

    @property
    def studies(self) -> list[str]:
        """The multiruns that it is a job of."""
        return [str(study) for study in self.record.get("studies") or ()]

    @property
    def place(self) -> str:
        """The data that it was trained and evaluated on: numbers of different data are never comparable."""
        return place_of(self.record.get("dataset"), str(self.choices.get("data", "?")))

    @property
    def minutes(self) -> float | None:
        """Minutes from start to end; None if unknown."""
        started, finished = self.record.get("started"), self.record.get("finished")
        if not started or not finished:
            return None
        return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds() / 60

    def metric(self, name: str, which: str = "best") -> float | None:
        """A metric of the best validation (and its test), or of the last one; None if it has none."""
        value = self.record["metrics"].get(which, {}).get(name)
        return None if value is None else float(value)

    @cached_property
    def values(self) -> dict[str, str]:
        """All keys that runs can be filtered and grouped by, with their values as text."""
        flat = dict(_flat({key: value for key, value in self.record.items() if key not in UNLISTED}))
        settings = {key: str(value) for key, value in self.record.get("overrides", {}).items()}
        study = {"study": ",".join(self.studies)} if self.studies else {}
        whole = {key: str(value) for key, value in (self.record.get("settings") or {}).items()}
        own = {"seed": str(self.record["seed"]), "place": self.place, **study}
        return {**flat, **whole, **settings, **self.choices, **own}

    def curve(self, metric: str) -> Curve:
        """The metric at each validation, percent, over epochs and steps; an incomplete last row is ignored.

        Raises:
            ValueError: `metrics.csv` has another format.
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
            offset = 1 - int(self.record.get("first_epoch") or 0)  # earlier versions counted from 0
            points = {}
            for line in file:
                if not line.endswith("\n"):
                    break
                # Most rows are of training, without the metric: for these only the cells up to the metric are split.
                if line.split(",", place + 1)[place].strip():
                    cells = line.rstrip("\n").split(",")
                    points[float(cells[step])] = (float(cells[epoch]) + offset, 100 * float(cells[place]))
        ordered = sorted(points.items())
        return Curve([e for _, (e, _) in ordered], [s for s, _ in ordered], [v for _, (_, v) in ordered])

    def curves(self, most: int) -> dict[str, Curve]:
        """Every logged metric with at most about `most` points; scores in percent. Incomplete rows are ignored.

        Raises:
            ValueError: `metrics.csv` has another format.
        """
        path = self.folder / METRICS
        if not path.exists():
            return {}
        found: dict[str, tuple[list[float], list[float], list[float]]] = {}
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader([file.readline()]), [])
            if STEP not in header or "epoch" not in header:
                return {}
            step, epoch = header.index(STEP), header.index("epoch")
            names = [(place, name) for place, name in enumerate(header) if place not in (step, epoch)]
            offset = 1 - int(self.record.get("first_epoch") or 0)
            for line in file:
                cells = line.rstrip("\n").split(",")
                if not line.endswith("\n") or len(cells) != len(header) or not cells[epoch]:
                    continue  # an incomplete row, or one of an earlier version, which says of no epoch
                for place, name in names:
                    if text := cells[place]:
                        steps, epochs, values = found.setdefault(name, ([], [], []))
                        steps.append(float(cells[step]))
                        epochs.append(float(cells[epoch]) + offset)
                        values.append(float(text))
        return {name: _thinned(name, *series, most) for name, series in found.items()}


def run_named(runs: Iterable[Run], name: object, setting: str, fix: str) -> Run:
    """The run with this id, with an id that begins so, or in this folder.

    Raises:
        RequestError: It names no run, or several; `fix` says what to do.
    """
    text = str(name)
    runs = list(runs)
    fits = [run for run in runs if text and str(run.record["id"]).startswith(text)]
    fits = fits or [run for run in runs if run.folder == Path(text).expanduser().resolve()]
    if len(fits) != 1:
        if isinstance(name, float):  # ids of earlier versions may look like one
            fix = "It was read as a number: put quotation marks round the id, \"id='1e23'\" or \"diff=['1e23',RUN]\"."
        problem = f"{setting} names {text}, which is {'no run' if not fits else f'the beginning of {len(fits)} ids'}."
        raise RequestError(problem, key=setting, fix=fix)
    return fits[0]


def is_score(name: str) -> bool:
    """Whether a metric is a share of 1, which is shown in percent."""
    return any(part in name for part in ("miou", "/iou/", "top1", "top5"))


def _thinned(name: str, steps: list[float], epochs: list[float], values: list[float], most: int) -> Curve:
    stride = max(1, len(values) // max(1, most))
    places = [*range(0, len(values) - 1, stride), len(values) - 1]
    scale = 100 if is_score(name) else 1
    return Curve([epochs[i] for i in places], [steps[i] for i in places], [scale * values[i] for i in places])


@dataclass(frozen=True)
class Evaluation:
    """One evaluation by `eval.py`: its folder, its record, and the id of the run of its checkpoint, if known."""

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

    def evaluates(self, run: Run) -> bool:
        """Whether it evaluates this run, on the data that the run was trained on."""
        if self.run != run.record["id"]:
            return False
        if dataset := self.content.get("dataset"):
            return place_of(dataset, "") == run.place
        own = run.record.get("dataset") or {"name": run.choices.get("data")}
        return bool(self.content.get("data", own["name"]) == own["name"])  # older ones have the name only

    def miou(self, split: str) -> float | None:
        """Class mIoU on a split, from 0 to 1; None if it evaluated another split."""
        value = self.content["metrics"].get(f"{split}/miou")
        return None if value is None else float(value)


def place_of(dataset: Mapping[str, Any] | None, chosen: str) -> str:
    """Readable name of a data set, from its record or, without one, from the chosen option."""
    name = str((dataset or {}).get("name", chosen))
    if (dataset or {}).get("synthetic") or name == "streets":
        return "synthetic streets"
    if name in ("fine", "fine_coarse"):  # older records do not distinguish Cityscapes from streets in its layout
        return "Cityscapes" if dataset else f"{name} (unknown data)"
    if name == "folder":
        return f"images in {(dataset or {}).get('root', '?')}"
    return {"camvid": "CamVid", "imagenet": "ImageNet"}.get(name, name)


def read_all(folders: Iterable[Path]) -> tuple[list[Run], list[Evaluation], list[str]]:
    """Every run and evaluation below some folders, oldest first, and a warning for each that cannot be read."""
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
                if twin := runs.get(record["id"]):
                    warnings.append(
                        f"{twin.folder} and {run.folder} hold the same run, {record['id']}: the second counts."
                    )
                runs[record["id"]] = run
            else:
                evaluations.append(_evaluation(path))
        except DamagedFile as error:
            warnings.append(f"{error.args[0]} It is ignored.")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.append(f"{path} cannot be read and is ignored ({type(error).__name__}: {error}).")
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
    content = read_json(path)
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
    """The records below a folder; the folders of runs are not searched further."""
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
