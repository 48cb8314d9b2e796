"""Which settings make Fast-SCNN see on CamVid: one factor at a time over the best so far, on drives that were held out.

    python benchmarks/recipe.py CAMVID_DIR --runs DIR [--epochs 30] [--hours 8] [--jobs 2] [--output FILE] [SETTING ...]

The base is the paper's recipe at crops of 240x320. Each factor is added to the best recipe so far and trained on two of
the three drives of train and val, evaluated on the third, each drive in turn; the test frames are never read. A factor
stays if its mean over the drives is better with each of the seeds; the second seed is trained only where the first was
better. All have the same number of epochs and are evaluated after the last. The runs lie in DIR: the same command goes
on where it was stopped. Writes results/camvid_recipe.json and .md whenever a run ends. Where the runs of an earlier
screening are gone, --known results/camvid_recipe.json takes from its results what they reached.

--jobs trains so many runs side by side: drives, and from six on both seeds of a factor. SETTINGs are added to every
run: on a GPU, `--jobs 6 trainer.accelerator=gpu`.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import RESULTS, answer
from machine import measured

from fastscnn.reports.comparison.groups import difference
from fastscnn.runs.record import LAST, RECORD, read_record, refuse_running
from fastscnn.utils.files import write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
FOLDS = ("0016E5", "0006R0", "0001TP")
SEEDS = (0, 1)
RARE = ("pole", "sign symbol", "pedestrian", "bicyclist")
STOPPED = 128
"""A run that was stopped by a signal has an exit code above this."""
Runs = Mapping[tuple[str, int], Mapping[str, float]]
"""Held-out drive and seed to the metrics after the last epoch."""


@dataclass(frozen=True)
class Factor:
    """A change of the recipe; `needs` names a factor without which it means nothing."""

    name: str
    settings: Sequence[str]
    needs: str | None = None


FACTORS = (
    Factor("class_weights", ["loss.class_weights=enet"]),
    Factor("adamw", ["optimizer=adamw", "optimizer.lr=0.003", "scheduler.warmup_steps=100"]),
    Factor("streets", ["init.checkpoint=streets"]),
    Factor("ema", ["callbacks=[default,ema]", "callbacks.ema.decay=0.99"]),
    Factor("strong", ["augment=strong"]),
    Factor("label_smoothing", ["loss.label_smoothing=0.1"]),
    Factor("lovasz", ["loss.lovasz_weight=1.0"]),
    Factor("dice", ["loss.dice_weight=1.0"]),
    Factor("weight_decay", ["optimizer.weight_decay=0.1"], needs="adamw"),
    Factor("ohem", ["loss.hard_pixels={probability:0.7,keep:0.0625}"]),
    Factor("more_dropout", ["model.dropout=0.3"]),
    Factor("no_auxiliary", ["loss.auxiliary_weight=0"]),
    Factor("crop", ["data.crop_size=[360,480]"]),
    Factor("aligned", ["data.crop_size=[384,480]"], needs="crop"),
    Factor("double", ["resolution=double"]),
    Factor("relu6", ["activation=relu6"]),
    Factor("no_skip", ["skip=zero"]),
)
"""The most promising first; but those that would make all later runs twice or four times as long come late."""


class OutOfTimeError(Exception):
    """No time is left to begin another run."""


class TrainingError(Exception):
    """A training failed."""


def settings_of(names: Sequence[str], added: Sequence[str] = ()) -> list[str]:
    return [setting for factor in FACTORS if factor.name in names for setting in factor.settings] + [*added]


def digest_of(settings: Sequence[str]) -> str:
    """For a folder's name, which keeps the runs of changed settings apart."""
    return hashlib.sha256(repr(list(settings)).encode()).hexdigest()[:8]


def variant(names: Sequence[str]) -> str:
    return "+".join(names) or "base"


def arguments_of(
    names: Sequence[str], fold: str, seed: int, epochs: int, root: Path, runs: Path, added: Sequence[str] = ()
) -> list[str]:
    """What `train.py` is called with."""
    settings = settings_of(names, added)
    return [
        "experiment=camvid",
        f"data.root={root}",
        "data.evaluate_test=false",
        f"data.held_out={fold}",
        f"seed={seed}",
        f"trainer.max_epochs={epochs}",
        f"data.check_val_every_n_epoch={epochs}",
        *settings,
        "logger=csv",
        "pictures=0",
        "trainer.save_every_epochs=5",
        f"data.store={runs / 'store'}",
        f"paths.run_dir={runs / f'{epochs}_epochs' / f'{variant(names)}-{digest_of(settings)}' / f'{fold}_seed{seed}'}",
    ]


def folder_of(arguments: Sequence[str]) -> Path:
    return Path(arguments[-1].partition("=")[2])


def finished(folder: Path, which: str = "last") -> dict[str, float] | None:
    """The metrics of a finished run: after its last epoch, or of its best."""
    record = read_record(folder) if (folder / RECORD).exists() else {"status": "missing"}
    return record["metrics"][which] if record["status"] == "finished" else None


def train(arguments: Sequence[str], threads: int, which: str = "last") -> dict[str, float]:
    """Train, or go on with what was stopped; returns the metrics after the last epoch, or of the best.

    Raises:
        RequestError: The run is running in another process.
        TrainingError: It failed.
    """
    folder = folder_of(arguments)
    if (folder / RECORD).exists():
        refuse_running(folder)
    if (folder / LAST).exists():
        arguments = [f"resume={folder}"]
    elif folder.exists():
        shutil.rmtree(folder)
    line = " ".join([time.strftime("%H:%M:%S"), "python src/train.py", *arguments, "\n"])
    print(line, end="", flush=True)  # whole, beside those of other threads
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "src/train.py", *arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
    if code > STOPPED:
        raise SystemExit(code)
    if code:
        raise TrainingError(f"{folder.parent.name}/{folder.name} ended with {code}")
    return read_record(folder)["metrics"][which]


def side_by_side(
    run: Callable[..., Mapping[str, float]], calls: Sequence[tuple], jobs: int
) -> Iterator[tuple[tuple, Mapping[str, float] | Exception]]:
    """Call `run` with each of `calls`, so many at once; yields each as it ends, with its result or why it has none.

    A signal that ends one run ends all: no other is begun.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        running = {pool.submit(run, *call): call for call in calls}
        for future in as_completed(running):
            error = future.exception()
            if isinstance(error, OutOfTimeError | TrainingError):
                yield running[future], error
            else:
                yield running[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def known_runs(file: Path, epochs: int) -> dict[tuple[tuple[str, ...], str, int], dict[str, float]]:
    """The metrics of the runs in the results of an earlier screening, by recipe, held-out drive and seed.

    Of the classes the file has the means over a factor's runs: each of these is given the means, which leaves the means
    as they are.

    Raises:
        SystemExit: The file cannot be read, or its runs have another number of epochs or other settings.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        found = {}
        for row in result["factors"]:
            names = () if row["name"] == "base" else (*row["over"], row["name"])
            if list(row["settings"]) != settings_of(names[-1:]):
                raise ValueError(f"{row['name']} had the settings {row['settings']}")
            classes = {f"val/iou/{name}": value / 100 for name, value in row.get("iou", {}).items()}
            for key, miou in row.get("of_each_run", {}).items():
                fold, _, seed = key.partition(", seed ")
                found[names, fold, int(seed)] = {"val/miou": miou / 100, **classes}
        if result["epochs"] != epochs:
            raise ValueError(f"its runs have {result['epochs']} epochs, not {epochs}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"--known {file} cannot be used: {error}.", file=sys.stderr)
        raise SystemExit(2) from None
    return found


@dataclass
class Row:
    """A factor's result: the recipe it was added to, and what was found."""

    name: str
    settings: Sequence[str]
    over: Sequence[str]
    decision: str
    runs: Runs
    before: Runs

    def is_better(self, seed: int) -> bool:
        return statistics.fmean(percent(self.runs[f, seed]) - percent(self.before[f, seed]) for f in FOLDS) > 0

    def as_json(self) -> dict:
        row = {key: value for key, value in asdict(self).items() if key not in ("runs", "before")}
        if not self.runs:
            return row
        row |= summary(self.runs)
        common = [key for key in self.runs if key in self.before]
        ours, others = ({i: percent(of[key]) for i, key in enumerate(common)} for of in (self.runs, self.before))
        if found := difference(ours, others):
            row["difference"] = {"points": found.mean, "interval": found.interval, "pairs": len(common)}
        return row


def percent(metrics: Mapping[str, float]) -> float:
    return 100 * metrics["val/miou"]


def summary(runs: Runs) -> dict:
    """Means over all runs, percent, and the mIoU of each."""
    names = sorted({key for metrics in runs.values() for key in metrics if key.startswith("val/iou/")})
    iou = {
        name.removeprefix("val/iou/"): 100 * statistics.fmean(run[name] for run in runs.values() if name in run)
        for name in names
    }
    return {
        "miou": statistics.fmean(map(percent, runs.values())),
        "rare_miou": statistics.fmean(iou[name] for name in RARE if name in iou) if iou else None,
        "iou": iou,
        "of_each_run": {f"{fold}, seed {seed}": percent(metrics) for (fold, seed), metrics in runs.items()},
    }


class Screening:
    """One factor at a time over the best so far.

    Args:
        run: Trains a recipe, given its factors, the held-out drive and the seed; returns the metrics.
        write: Called with the rows, the best factors so far and the names that were not reached, whenever a run ended.
        factors: What is tried, in this order.
        jobs: Runs side by side. With enough for every drive of both seeds, the second seed does not wait for the first.
    """

    def __init__(
        self,
        run: Callable[[Sequence[str], str, int], Mapping[str, float]],
        write: Callable[[Sequence[Row], Sequence[str], Sequence[str]], None],
        factors: Sequence[Factor] = FACTORS,
        jobs: int = 1,
    ) -> None:
        self.run, self.write, self.factors, self.jobs = run, write, factors, jobs
        self.best: list[str] = []
        self.rows: list[Row] = []
        self.found: dict[tuple[str, ...], dict[tuple[str, int], Mapping[str, float]]] = {}

    def all(self) -> None:
        """Try every factor; returns early where the time is over."""
        base = Row("base", [], [], "base", self.runs([]), {})
        self.rows.append(base)
        at_once = len(SEEDS) if self.jobs >= len(SEEDS) * len(FOLDS) else 1
        try:
            self.measure([[]], SEEDS[:at_once])
            for factor in self.factors:
                self.decide(factor, at_once)
        except OutOfTimeError:
            self.report()

    def runs(self, names: Sequence[str]) -> dict[tuple[str, int], Mapping[str, float]]:
        return self.found.setdefault(tuple(names), {})

    def measure(self, recipes: Sequence[Sequence[str]], seeds: Sequence[int]) -> None:
        """Train what is missing of these recipes, side by side; the results are written whenever a run ends.

        Raises:
            OutOfTimeError: No time was left for one of them.
            TrainingError: One failed; the others ended.
        """
        missing = [
            (names, fold, seed)
            for seed in seeds
            for names in recipes
            for fold in FOLDS
            if (fold, seed) not in self.runs(names)
        ]
        errors = []
        for (names, *key), found in side_by_side(self.run, missing, self.jobs):
            if isinstance(found, Exception):
                errors.append(found)
            else:
                self.runs(names)[tuple(key)] = found
                self.report()
        if errors:
            raise errors[0]

    def decide(self, factor: Factor, at_once: int) -> None:
        over, names = list(self.best), [*self.best, factor.name]
        row = Row(factor.name, factor.settings, over, "unfinished", self.runs(names), self.runs(over))
        self.rows.append(row)
        if factor.needs not in (None, *over):
            row.decision = f"left out: it needs {factor.needs}"
            return
        try:
            for index in range(0, len(SEEDS), at_once):
                seeds = SEEDS[index : index + at_once]
                self.measure([over, names], seeds)
                if not all(map(row.is_better, seeds)):
                    row.decision = "dropped"
                    break
            else:
                self.best, row.decision = names, "stays"
        except TrainingError as error:
            row.decision = f"failed: {error}"
        self.report()

    def report(self) -> None:
        rows = [row for row in self.rows if row.runs or row.decision != "unfinished"]
        tried = {row.name for row in rows}
        self.write(rows, self.best, [factor.name for factor in self.factors if factor.name not in tried])


def cells(row: Mapping) -> tuple[str, str, str]:
    """The mIoU of a row, that of its rare classes, and its difference with the interval; empty where there is none."""
    change = ""
    if found := row.get("difference"):
        low_high = found["interval"]
        change = f"{found['points']:+.2f}" + (f" [{low_high[0]:+.2f}, {low_high[1]:+.2f}]" if low_high else "")
    return f"{row['miou']:.1f}", "" if row["rare_miou"] is None else f"{row['rare_miou']:.1f}", change


def table(result: Mapping) -> str:
    """The results as Markdown."""
    lines = [
        "# The recipe on CamVid, one factor at a time",
        "",
        f"Mean over three held-out drives ({', '.join(FOLDS)}) of the mIoU after {result['epochs']} epochs, in",
        "percent. Differences are to the best recipe so far (the column `over`), in points, with the 95% interval by",
        "Student's t over the pairs of the same drive and seed. A factor stays if it is better with each of the two",
        f"seeds. Rare: the mean of {', '.join(RARE)}.",
        "",
        "| factor | over | mIoU | rare | difference | pairs | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in result["factors"]:
        over = variant(row["over"]) if row["name"] != "base" else ""
        if "miou" not in row:
            lines.append(f"| {row['name']} | {over} | | | | | {row['decision']} |")
            continue
        pairs = row["difference"]["pairs"] if "difference" in row else ""
        lines.append(f"| {row['name']} | {over} | {' | '.join(cells(row))} | {pairs} | {row['decision']} |")
    settings = " ".join(result["best"]["settings"]) or "the paper's"
    lines += ["", f"Best so far: `{variant(result['best']['factors'])}` ({settings})."]
    if result["not_reached"]:
        lines += [f"Not reached: {', '.join(result['not_reached'])}."]
    return "\n".join([*lines, ""])


def main(arguments: argparse.Namespace) -> None:
    root, runs = arguments.root.resolve(), arguments.runs.resolve()
    end = time.monotonic() + 3600 * arguments.hours
    known = known_runs(arguments.known, arguments.epochs) if arguments.known else {}

    def run(names: Sequence[str], fold: str, seed: int) -> Mapping[str, float]:
        if (earlier := known.get((tuple(names), fold, seed))) is not None:
            return earlier
        command = arguments_of(names, fold, seed, arguments.epochs, root, runs, arguments.settings)
        if (metrics := finished(folder_of(command))) is not None:
            return metrics
        if time.monotonic() > end:
            raise OutOfTimeError
        return train(command, arguments.threads or max(1, (os.cpu_count() or 1) // arguments.jobs))

    def write(rows: Sequence[Row], best: Sequence[str], not_reached: Sequence[str]) -> None:
        command = arguments_of([], "DRIVE", 0, arguments.epochs, Path("DIR"), Path("RUNS"), arguments.settings)
        result = {
            "what": "CamVid, one factor at a time over the best so far, on held-out drives; test is not read",
            "epochs": arguments.epochs,
            "base": " ".join(["python src/train.py", *command]),
            "factors": [row.as_json() for row in rows],
            "best": {"factors": list(best), "settings": settings_of(best)},
            "not_reached": list(not_reached),
            **measured(),
            "command": " ".join(
                [f"python benchmarks/recipe.py CAMVID_DIR --runs DIR --epochs {arguments.epochs}", *arguments.settings]
            ),
        }
        write_json(arguments.output, result)
        write_text(arguments.output.with_suffix(".md"), table(result))

    try:
        Screening(run, write, jobs=arguments.jobs).all()
    except TrainingError as error:
        print(f"The base cannot be trained: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, outside the checkout")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--hours", type=float, default=8, help="no run begins after these")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, help="of each run; else the processor's, shared by the runs")
    parser.add_argument("--known", type=Path, help="results of an earlier screening, whose runs are not trained again")
    parser.add_argument("--output", type=Path, default=RESULTS / "camvid_recipe.json")
    parser.add_argument(
        "settings", nargs="*", metavar="SETTING", help="added to every run, such as trainer.accelerator=gpu"
    )
    answer(main, parser.parse_intermixed_args())
