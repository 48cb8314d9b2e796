"""The page of an evaluation: one file that opens from disk, without the network and without scripts."""

import html
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from fastscnn.reports.comparison.panels import embedded
from fastscnn.reports.evaluation.charts import bar, calibration_curve
from fastscnn.runs.evaluation_report import EvaluationReport, ReportedFrame
from fastscnn.utils.files import write_text

LOSSLESS = 101
"""Quality of pictures of labels."""
NO_CALIBRATION = "It is measured with backend=torch alone: the other backends give labels without probabilities."


def write_page(report: EvaluationReport, path: Path) -> None:
    """Write the page; no reader sees it incomplete.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, page(report))


def page(report: EvaluationReport) -> str:
    """The whole page as HTML."""
    measured = report.content["report"]
    return Template(_file("evaluation", "page.html")).substitute(
        title=html.escape(report.title),
        style=_file("comparison", "page.css") + _file("evaluation", "page.css"),
        subtitle=_subtitle(report.content),
        headline=_headline(report),
        classes_note=_classes_note(measured),
        classes=_classes(report),
        confusion=_confusion(report),
        objects_note=_objects_note(measured["objects"]),
        objects=_objects(report),
        calibration=_calibration(report.content.get("calibration")),
        legend=_legend(report),
        worst='<div class="frames">' + "\n".join(map(_frame, report.worst)) + "</div>",
    )


def _file(room: str, name: str) -> str:
    return (resources.files(f"fastscnn.reports.{room}") / name).read_text(encoding="utf-8")


def _percent(share: float | None) -> str:
    return "-" if share is None or share != share else f"{100 * share:.1f}"


def _between(ends: Sequence[float] | None) -> str:
    return f"{_percent(ends[0])} to {_percent(ends[1])}" if ends else ""


def _subtitle(content: Mapping[str, Any]) -> str:
    parts = [
        html.escape(str(content["checkpoint"])),
        f"{content['frames']:,} frames, {content['pixels']:,} labelled pixels",
        f"resolution {html.escape(str(content['resolution']))}",
        *([f"backend {html.escape(content['backend'])}"] if "backend" in content else []),
        html.escape(str(content["finished"]).replace("T", " ").replace("+00:00", " UTC")),
        '<a href="eval.json">all numbers (eval.json)</a>',
    ]
    return " · ".join(parts)


def _headline(report: EvaluationReport) -> str:
    content, split = report.content, report.content["split"]
    metrics, intervals = content["metrics"], content["report"]["intervals"]
    shown = {"mIoU": "miou", "category mIoU": "category_miou", "pixel accuracy": "accuracy"}
    parts = [
        (title, _percent(metrics[key]) + " %", _between(intervals.get(key)))
        for title, name in shown.items()
        if (key := f"{split}/{name}") in metrics
    ]
    boundary = content["report"]["boundary"]
    for title in ("near", "away"):
        where = "near boundaries" if title == "near" else "away from them"
        parts.append((f"mIoU {where}", _percent(boundary[title]["miou"]) + " %", ""))
    if calibration := content.get("calibration"):
        parts.append(("calibration error", _percent(calibration["ece"]) + " %", ""))
    items = (f"<div><dt>{title}</dt><dd>{value} <small>{between}</small></dd></div>" for title, value, between in parts)
    return f'<dl class="headline">{"".join(items)}</dl>'


def _classes_note(measured: Mapping[str, Any]) -> str:
    drawn, pixels = measured["bootstrap"], measured["boundary"]["pixels"]
    labelled = measured["boundary"]["near"]["pixels"] + measured["boundary"]["away"]["pixels"]
    share = measured["boundary"]["near"]["pixels"] / labelled if labelled else float("nan")
    between = (
        f"The line is the {100 * drawn['share']:.0f} % interval over frames: the {drawn['frames']} frames are drawn "
        f"anew with replacement {drawn['draws']:,} times (bootstrap, seed {drawn['seed']}). Frames of one drive "
        "resemble each other, which such an interval does not know: it is then too narrow."
        if drawn["frames"] > 1
        else "One frame gives no interval."
    )
    return (
        f"Percent. {between} Near: the pixels with another label, or an ignored pixel, within {pixels} pixels in any "
        f"direction, {_percent(share)} % of the labelled ones; away: the others. Both are IoU of those pixels alone."
    )


def _color(color: Sequence[int]) -> str:
    return f'<span class="color" style="background:rgb({",".join(map(str, color))})"></span>'


def _classes(report: EvaluationReport) -> str:
    content, split = report.content, report.content["split"]
    metrics, measured = content["metrics"], content["report"]
    near, away = measured["boundary"]["near"], measured["boundary"]["away"]
    labelled = np.asarray(report.matrix).sum(1)
    shares = labelled / max(1, labelled.sum())

    def row(name: str, key: str, sides: Sequence[float], share: str, kind: str = "") -> str:
        ends = measured["intervals"].get(key)
        cells = [f'<td class="number">{_percent(metrics[key])}</td><td class="wide-bar">{bar(metrics[key], ends)}</td>']
        cells.append(f'<td class="number quiet optional">{_between(ends)}</td>')
        cells += [f'<td class="number">{_percent(side)}</td>' for side in sides]
        return f'<tr{kind}><td>{name}</td>{"".join(cells)}<td class="number quiet optional">{share}</td></tr>'

    rows = [
        row(
            _color(color) + html.escape(name),
            f"{split}/iou/{name}",
            (near["iou"][name], away["iou"][name]),
            f"{100 * share:.2f}",
        )
        for (name, color), share in zip(report.colors.items(), shares, strict=True)
    ]
    rows.append(row("mean", f"{split}/miou", (near["miou"], away["miou"]), "", ' class="mean"'))
    head = (
        '<th>class</th><th class="number">IoU</th><th></th><th class="number optional">interval</th>'
        '<th class="number">near</th><th class="number">away</th><th class="number optional">% of pixels</th>'
    )
    return _table("IoU of each class", "iou", head, rows)


def _table(name: str, kind: str, head: str, rows: Sequence[str]) -> str:
    inside = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{inside}</div>'


def _heat(share: float) -> str:
    return f'style="--share:{round(75 * share)}%"'


def _confusion(report: EvaluationReport) -> str:
    names = [*map(html.escape, report.colors)]
    colors = [*map(_color, report.colors.values())]
    head = "".join(f"<th><span>{name}</span>{color}</th>" for name, color in zip(names, colors, strict=True))
    rows = []
    for place, counts in enumerate(report.matrix):
        total = sum(counts)
        cells = [f'<th scope="row">{colors[place]}{names[place]}</th>']
        for other, count in enumerate(counts):
            share = count / total if total else 0.0
            kind = "right" if other == place else "wrong"
            text = f"{100 * share:.0f}" if share >= 0.005 else ""
            cells.append(f'<td class="heat {kind}" {_heat(share)}>{text}</td>' if text else "<td></td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _table("Confusion matrix", "matrix", f"<td></td>{head}", rows)


def _objects_note(objects: Mapping[str, Any]) -> str:
    return (
        "An object is a connected region of one label in the truth (over eight neighbours; ignored pixels divide), and "
        "its size is its area, from the square of one side to that of the next, in pixels of the label files. The "
        "number is the recall: of all pixels of the objects of that size, the percentage that has their class in the "
        f"prediction. Below it: the objects of which at least {100 * objects['found_from']:.0f} % of the pixels are "
        "right, of all objects."
    )


def _objects(report: EvaluationReport) -> str:
    objects = report.content["report"]["objects"]
    sides = objects["sides"]
    titles = [f"below {sides[0]}²", *(f"{a}² to {b}²" for a, b in pairwise(sides))]
    titles.append(f"from {sides[-1]}²")
    rows = []
    for name, color in report.colors.items():
        cells = [f"<td>{_color(color)}{html.escape(name)}</td>"]
        parts = (objects[part][name] for part in ("objects", "found", "pixels", "right"))
        for count, found, pixels, right in zip(*parts, strict=True):
            if not count:
                cells.append("<td></td>")
                continue
            share, below = right / pixels, f"<small>{found:,} of {count:,}</small>"
            cells.append(f'<td class="heat right" {_heat(0.7 * share)}>{_percent(share)}{below}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "<th>class</th>" + "".join(f'<th class="number">{title}</th>' for title in titles)
    return _table("Objects by size", "plain sizes", head, rows)


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    if not calibration:
        return f'<p class="note">{NO_CALIBRATION}</p>'
    bins = calibration["bins"]
    total = sum(one["pixels"] for one in bins) or 1
    rows = "".join(
        f'<tr><td class="number">{_percent(one["confidence"])}</td><td class="number">{_percent(one["accuracy"])}</td>'
        f'<td class="number">{_percent(one["pixels"] / total)}</td></tr>'
        for one in bins
    )
    head = "".join(f'<th class="number">{title}</th>' for title in ("probability", "right", "of the pixels"))
    note = (
        "How often labels of a probability are right. Below the dashed line the network is surer than it is right; the "
        "grey columns are the share of the pixels. The expected calibration error is the mean distance to the dashed "
        f"line: {100 * calibration['ece']:.2f} %, at temperature {calibration['temperature']:.3g}."
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<p class="note">{note}</p><div class="curve">{calibration_curve(bins)}{table}</div>'


def _legend(report: EvaluationReport) -> str:
    items = (f"<li>{_color(color)}{html.escape(name)}</li>" for name, color in report.colors.items())
    return f'<ul class="legend">{"".join(items)}</ul>'


def _frame(frame: ReportedFrame) -> str:
    layers: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("picture", frame.picture, {}),
        ("truth", frame.truth, {"kind": "label", "quality": LOSSLESS}),
        ("prediction", frame.prediction, {"kind": "label", "quality": LOSSLESS}),
        ("error", frame.error, {}),
    )
    four = ""
    for what, picture, how in layers:
        image = embedded(np.ascontiguousarray(picture[:, :, ::-1]), f"{frame.name}, {what}", **how)
        four += f"<div>{image}<span>{what}</span></div>"
    wrong = "; ".join(
        f"{html.escape(label)} taken for {html.escape(other)} {_percent(share)} %"
        for label, other, share in frame.confused
    )
    most = f" · of the wrong pixels: {wrong}" if wrong else ""
    caption = f"{html.escape(frame.name)} · {_percent(frame.accuracy)} % right{most}"
    return f'<figure><figcaption>{caption}</figcaption><div class="four">{four}</div></figure>'
