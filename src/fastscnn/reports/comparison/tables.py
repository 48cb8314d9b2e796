"""The tables of a comparison: groups against a baseline, and the paper's Tables 4, 5, 7 and 8 with our numbers."""

from collections.abc import Mapping, Sequence

from fastscnn.reports import paper
from fastscnn.reports.comparison.content import Table
from fastscnn.reports.comparison.groups import Group, Spread, default_baselines
from fastscnn.reports.comparison.records import Evaluation, Run
from fastscnn.reports.comparison.unlike import NAMED, PRETRAINED, alike, compared, source_of
from fastscnn.runs.identity import GROUPS

CITYSCAPES = "Cityscapes"
SEEDS = "Ours is the mean over seeds ± sample standard deviation (number of seeds)."


def seeds_table(
    groups: Sequence[Group], baselines: Mapping[str, Group], metric: str, named: Sequence[str] = NAMED
) -> Table:
    """Each group's mean and deviation over its seeds, and its difference to the baseline of its data.

    `named` are the choices that are compared: where another setting differs, it is named in place of a difference.
    """
    split, _, name = metric.partition("/")
    test = f"test/{name}"
    rows = []
    for group in groups:
        if not group.values(metric):
            continue
        baseline = baselines.get(group.first.place)
        row = [group.label, group.first.place, ", ".join(map(str, group.runs))]
        for measure in dict.fromkeys((metric, test)):
            gap, reason = compared(group, baseline, measure, named) if baseline else (None, "")
            row += [_spread(group.values(measure)), "baseline" if group is baseline else str(gap or reason)]
        rows.append(row)
    columns = ["runs", "data", "seeds", f"best {metric} %", "difference"]
    columns += [f"{test} %", "difference in test"] if split != "test" else []
    double = [str(run.record["id"]) for group in groups for run in group.superseded]
    caption = (
        "Mean ± sample standard deviation (number of seeds). Differences are to the mean of the baseline on the same "
        "data, in points, with the 95% confidence interval by Student's t: paired where both have the same seeds, else "
        "Welch's. Where a setting differs beside the choices that are compared, it is named instead; group_by=[...] "
        "compares by it."
    )
    if double:
        caption += f" Of a seed that was run again, the newest run counts; not counted: {', '.join(double)}."
    return Table("Means over seeds", columns, rows, caption, frozenset(range(3, len(columns))))


def table_4(groups: Sequence[Group]) -> Table:
    """Class and category mIoU of the models."""
    places = _places(groups)
    rows = []
    for model in paper.TABLE_4:
        row = [model.name, _number(model.class_miou), _number(model.category_miou), _number(model.parameters, "g")]
        row.append(PARAMETERS if model.option == GROUPS["model"] else "")
        for place in places:
            group = _choose(groups, place, {"model": model.option}) if model.option else None
            row += [_metric(group, f"{place_split(place)}/{measure}") for measure in MEASURES]
        rows.append(row)
    columns = ["model", "paper: class", "paper: category", "paper: parameters, M", "ours: parameters, M"]
    for place in places:
        columns += [f"ours, {place}, {place_split(place)}: class", "category"]
    caption = f"mIoU in percent. The paper's: Cityscapes test. {SEEDS} {_other_data(places)}{_compared(groups)}"
    caption += _peers(groups)
    return Table("Table 4: class and category mIoU", columns, rows, caption, frozenset(range(1, len(columns))))


def table_5(groups: Sequence[Group]) -> Table:
    """IoU of every class."""
    places = [place for place in _places(groups) if place != "CamVid"]
    trained = [
        (series, place, group)
        for series, option in (("Fast-SCNN", GROUPS["model"]), ("ContextNet", "contextnet"))
        for place in places
        if (group := _choose(groups, place, {"model": option})) or option == GROUPS["model"]
    ]
    rows = []
    for name in paper.CLASSES:
        row = [name, *(f"{series[name]:.1f}" for series in paper.TABLE_5.values())]
        row += [_metric(group, f"{place_split(place)}/iou/{name}") for _, place, group in trained]
        rows.append(row)
    columns = ["class", *(f"paper: {name}" for name in paper.TABLE_5)]
    columns += [
        f"ours, {place}, {place_split(place)}" + ("" if series == "Fast-SCNN" else f": {series}")
        for series, place, _ in trained
    ]
    caption = f"IoU in percent. The paper's: Cityscapes test. {SEEDS} {_other_data(places)}{_compared(groups)}"
    caption += _peers(groups)
    return Table("Table 5: class IoU", columns, rows, caption, frozenset(range(1, len(columns))))


def table_7(groups: Sequence[Group], evaluations: Sequence[Evaluation]) -> Table:
    """Class mIoU at lower input resolutions: trained at them, and the full network applied to them."""
    places = _places(groups)
    rows = []
    for row_of in paper.TABLE_7:
        row = [f"{row_of.resolution} ({row_of.size})", f"{row_of.class_miou:.1f}", f"{row_of.fps:.1f}"]
        for place in places:
            split = place_split(place)
            row.append(_metric(_choose(groups, place, {"resolution": row_of.resolution}), f"{split}/miou"))
            row.append(_applied(groups, evaluations, place, split, resolution=row_of.resolution))
        rows.append(row)
    columns = ["input", "paper: class", "paper: frames a second"]
    for place in places:
        split = place_split(place)
        columns += [f"ours, {place}, {split}: trained at it", "trained at full"]
    caption = (
        "Class mIoU in percent, evaluated at full label resolution. The paper's: Cityscapes test, one network. "
        "Trained at full: the network of the first row at the row's resolution (eval.py checkpoint=FILE resolution=…). "
        f"{SEEDS} {_other_data(places)}{_compared(groups)}"
    )
    return Table("Table 7: input resolution", columns, rows, caption, frozenset(range(1, len(columns))))


def table_8(groups: Sequence[Group]) -> Table:
    """Class mIoU with ImageNet pre-training and coarse labels."""
    places = _places(groups)
    rows = []
    for (data, pretrain), (name, published) in paper.TABLE_8.items():
        row = [name, f"{published:.2f}"]
        for place in places:
            group = _choose(groups, place, {"pretrain": pretrain}, coarse=data == "fine_coarse")
            row += [_metric(group, "val/miou"), _metric(group, "test/miou")]
        rows.append(row)
    columns = ["model", "paper: val"]
    for place in places:
        columns += [f"ours, {place}: val", "test"]
    caption = (
        "Class mIoU in percent. The paper's: Cityscapes val. The paper calls its differences insignificant. "
        f"{SEEDS} {_other_data(places)}{_compared(groups)}"
    )
    return Table("Table 8: pre-training and coarse labels", columns, rows, caption, frozenset(range(1, len(columns))))


def skip_table(groups: Sequence[Group], evaluations: Sequence[Evaluation]) -> Table:
    """The effect of the skip connection: removed from a trained network, and from the training."""
    rows = [["paper, Cityscapes val, with coarse labels", f"{paper.SKIP['keep']:.2f}", f"{paper.SKIP['zero']:.2f}", ""]]
    for place in _places(groups):
        for split in ("val", "test"):
            whole = _applied(groups, evaluations, place, split, skip="keep")
            cut = _applied(groups, evaluations, place, split, skip="zero")
            trained = _metric(_choose(groups, place, {"skip": "zero"}), f"{split}/miou")
            if cut or trained:
                rows.append([f"ours, {place} {split}", whole, cut, trained])
    columns = ["class mIoU, %", "with the skip connection", "taken from the trained network", "trained without it"]
    caption = f"Removed from the trained network: eval.py checkpoint=FILE skip=zero. {SEEDS}{_compared(groups)}"
    return Table("Section 3.2: the skip connection", columns, rows, caption, frozenset({1, 2, 3}))


def activation_table(groups: Sequence[Group]) -> Table:
    """ReLU against ReLU6."""
    rows = [["paper, Cityscapes", "slightly better", ""]]
    for place in _places(groups):
        for split in ("val", "test"):
            cells = [
                _metric(_choose(groups, place, {"activation": name}), f"{split}/miou") for name in ("relu", "relu6")
            ]
            if any(cells):
                rows.append([f"ours, {place} {split}", *cells])
    caption = f"{SEEDS}{_compared(groups)}"
    columns = ["class mIoU, %", "ReLU", "ReLU6"]
    return Table("Section 3.1: ReLU against ReLU6", columns, rows, caption, frozenset({1, 2}))


def imagenet_table(runs: Sequence[Run]) -> Table:
    """Accuracy of the pre-training runs."""
    rows = [["paper, ImageNet val", "", f"{paper.IMAGENET['top1']:.2f}", f"{paper.IMAGENET['top5']:.2f}", "", ""]]
    for run in runs:
        if run.choices.get("data") == "imagenet" and run.finished:
            dataset = run.record.get("dataset") or {}
            images = sum((dataset.get("frames") or {}).get("train", {}).values())
            metrics = [run.metric(name) for name in ("val/top1", "val/top5", "train/top1")]
            cells = ["" if value is None else f"{100 * value:.2f}" for value in metrics]
            rows.append([f"ours, {run.record['id']}", f"{images:,}" if images else "", *cells, str(run.folder.name)])
    columns = ["pre-training", "training images", "top-1 %", "top-5 %", "training top-1 %", "folder"]
    return Table("Section 3.4: ImageNet pre-training", columns, rows, "", frozenset({1, 2, 3, 4}))


MEASURES = ("miou", "category_miou")
PARAMETERS = "1.11"
"""Millions, without BatchNorm and auxiliary heads, 19 classes; a test of the network checks it."""


def place_split(place: str) -> str:
    """The split that is reported: Cityscapes' test labels are not public."""
    return "val" if place == CITYSCAPES else "test"


def _places(groups: Sequence[Group]) -> list[str]:
    """Cityscapes first, then the other data that runs were trained on."""
    found = dict.fromkeys(group.first.place for group in groups)
    return [CITYSCAPES, *(place for place in found if place not in (CITYSCAPES, "ImageNet"))]


def _other_data(places: Sequence[str]) -> str:
    others = [place for place in places if place != CITYSCAPES]
    return f"Numbers on {' and '.join(others)} are not comparable with the paper's." if others else ""


def _compared(groups: Sequence[Group]) -> str:
    """Sentences with the settings of the runs in the table, and with the groups that have others."""
    settings_of, left_out = [], []
    for place, baseline in default_baselines(groups, "val/miou").items():
        settings = {k: v for k, v in baseline.settings.items() if k not in ("place", "loss", "optimizer", "scheduler")}
        here = [group for group in groups if group.first.place == place]
        shown = alike(here, baseline)
        sources = dict.fromkeys(f"{PRETRAINED}={source}" for group in shown if (source := source_of(group)))
        words = [*(f"{name}={value}" for name, value in settings.items()), *sources]
        others = [group.label for group in here if group not in shown]
        left_out += others
        if words or others:
            settings_of.append(f"{place}: {' '.join(words) or 'the defaults'}")
    only = f" Only runs of the same settings are shown ({'; '.join(settings_of)})." if settings_of else ""
    return only + (f" Left out: {', '.join(left_out)}." if left_out else "")


def _peers(groups: Sequence[Group]) -> str:
    """A sentence about the numbers of the other models, if there are any."""
    peers = {model.option for model in paper.TABLE_4} - {GROUPS["model"]}
    others = any(group.first.choices.get("model") in peers for group in groups)
    return " Ours of another model than Fast-SCNN is the variant of the library pytorchcv." if others else ""


def _choose(groups: Sequence[Group], place: str, choices: Mapping[str, str], *, coarse: bool = False) -> Group | None:
    """The group with these choices, the defaults for all others, and every other setting that of the place's baseline.

    None where there is none: a number from other settings would not answer the table's question.
    """
    baseline = default_baselines(groups, "val/miou").get(place)
    wanted = {**{name: default for name, default in GROUPS.items() if name != "data"}, **choices}
    here = [group for group in groups if group.first.place == place]
    fitting = [
        group
        for group in (alike(here, baseline) if baseline else ())
        if (group.first.choices.get("data") == "fine_coarse") == coarse
        and all(group.first.choices.get(name, GROUPS[name]) == option for name, option in wanted.items())
    ]
    ranked = [(len(group.runs), number) for number, group in enumerate(fitting)]
    return fitting[max(ranked)[1]] if ranked else None


def _applied(
    groups: Sequence[Group],
    evaluations: Sequence[Evaluation],
    place: str,
    split: str,
    *,
    skip: str = "keep",
    resolution: str = "full",
) -> str:
    """The metric of the networks trained with all defaults when they are applied with other settings."""
    group = _choose(groups, place, {})
    if group is None:
        return ""
    newest: dict[int, float] = {}
    for evaluation in evaluations:  # oldest first
        value = evaluation.miou(split)
        if value is not None and (evaluation.skip, evaluation.resolution) == (skip, resolution):
            newest |= {seed: 100 * value for seed, run in group.runs.items() if evaluation.evaluates(run)}
    if not newest and (skip, resolution) == ("keep", "full"):
        return _metric(group, f"{split}/miou")
    return _spread(newest)


def _metric(group: Group | None, metric: str) -> str:
    return _spread(group.values(metric)) if group else ""


def _spread(values: Mapping[int, float]) -> str:
    spread = Spread.of(values.values())
    return str(spread) if spread else ""


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else f"{value:{form}}"
