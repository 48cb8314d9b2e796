"""What the paper's own choices cost or bring on real photographs: ReLU or ReLU6, the skip connection, the start.

    python benchmarks/camvid_choices.py CAMVID_DIR --runs DIR [--imagenet FILE] [--epochs 60] [--jobs 1] [SETTING ...]

Each choice is one change to the same recipe on CamVid (what benchmarks/recipe.py has found best, but from random
weights), three runs of it: each with a seed of its own, and with a drive of its own held out, on which it is evaluated
after the last epoch. The test frames are never read. FILE is a checkpoint of experiment=imagenet_pretrain. A choice is
finished before the next is begun. The runs lie in DIR: the same command goes on where it was stopped. Writes
results/camvid_choices.json and .md whenever a run ends.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import RESULTS, answer
from machine import measured
from recipe import FOLDS, arguments_of, cells, finished, folder_of, percent, settings_of, side_by_side, summary, train

from fastscnn.reports.comparison.groups import difference
from fastscnn.utils.files import write_json, write_text

RECIPE = ("class_weights", "adamw", "strong")
BASE = "the recipe"
CHOICES: Mapping[str, Sequence[str]] = {
    BASE: [],
    "ReLU6 for ReLU": ["activation=relu6"],
    "without the skip connection": ["skip=zero"],
    "ImageNet sample as the start": ["pretrain=imagenet", "pretrain.checkpoint=FILE"],
    "drawn streets as the start": ["init.checkpoint=streets"],
}
RUNS = [(fold, seed) for seed, fold in enumerate(FOLDS)]
Found = Mapping[str, Mapping[tuple[str, int], Mapping[str, float]]]


def described(found: Found) -> list[dict]:
    """A row for each choice that has runs, with its difference to the recipe over the pairs of drive and seed."""
    rows = []
    for name, runs in found.items():
        if not runs:
            continue
        row = {"choice": name, "settings": list(CHOICES[name]), **summary(runs)}
        common = [key for key in runs if key in found[BASE]]
        ours, others = ({i: percent(of[key]) for i, key in enumerate(common)} for of in (runs, found[BASE]))
        if name != BASE and (change := difference(ours, others)):
            row["difference"] = {"points": change.mean, "interval": change.interval, "pairs": len(common)}
        rows.append(row)
    return rows


def table(result: Mapping) -> str:
    """The results as Markdown."""
    lines = [
        "# The paper's choices on CamVid",
        "",
        f"mIoU on held-out drives after {result['epochs']} epochs, percent, mean over three runs, each with a drive",
        "held out and a seed of its own. Differences are to the first row, in points, over the same drives and seeds,",
        "with the 95% interval by Student's t.",
        "",
        "| choice | mIoU | rare classes | difference | runs |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in result["choices"]:
        lines.append(f"| {row['choice']} | {' | '.join(cells(row))} | {len(row['of_each_run'])} |")
    lines += ["", f"The recipe: `{result['recipe']}`."]
    if result["not_reached"]:
        lines += [f"Not reached: {', '.join(result['not_reached'])}."]
    return "\n".join([*lines, ""])


def main(arguments: argparse.Namespace) -> None:
    root, runs = arguments.root.resolve(), arguments.runs.resolve()
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    found: dict[str, dict[tuple[str, int], Mapping[str, float]]] = {name: {} for name in CHOICES}

    def command_of(name: str, fold: str, seed: int) -> list[str]:
        chosen = [setting.replace("=FILE", f"={arguments.imagenet}") for setting in CHOICES[name]]
        settings = [*settings_of(RECIPE), *chosen, *arguments.settings]
        return arguments_of([], fold, seed, arguments.epochs, root, runs, settings)

    def run(name: str, fold: str, seed: int) -> Mapping[str, float]:
        command = command_of(name, fold, seed)
        return finished(folder_of(command)) or train(command, threads)

    def write() -> None:
        command = ["python benchmarks/camvid_choices.py CAMVID_DIR --runs DIR"]
        command += ["--imagenet FILE"] * bool(arguments.imagenet)
        result = {
            "what": "CamVid, one change to a recipe at a time, on held-out drives; test is not read",
            "epochs": arguments.epochs,
            "recipe": " ".join(settings_of(RECIPE)),
            "choices": described(found),
            "not_reached": [name for name, of_it in found.items() if not of_it],
            **measured(),
            "command": " ".join([*command, f"--epochs {arguments.epochs}", *arguments.settings]),
        }
        write_json(arguments.output, result)
        write_text(arguments.output.with_suffix(".md"), table(result))

    calls = [
        (name, *key)
        for name, settings in CHOICES.items()
        if arguments.imagenet or not any(setting.endswith("=FILE") for setting in settings)
        for key in RUNS
    ]
    for (name, *key), metrics in side_by_side(run, calls, arguments.jobs):
        if isinstance(metrics, Exception):
            print(f"A run cannot be trained: {metrics}", file=sys.stderr)
            raise SystemExit(2)
        found[name][tuple(key)] = metrics
        write()


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, outside the checkout")
    parser.add_argument("--imagenet", type=Path, help="a checkpoint of experiment=imagenet_pretrain; else left out")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--output", type=Path, default=RESULTS / "camvid_choices.json")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="added to every run")
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    answer(main, parsed())
