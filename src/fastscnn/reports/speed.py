"""Table 6 from measurements: a table beside the paper's numbers, and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastscnn.reports.comparison.write import markdown_table
from fastscnn.reports.paper import TABLE_4, TABLE_6

Row = Mapping[str, Any]
"""A measurement: `model`, `runtime`, `precision`, `head` (`none`, `own`, `fused`), `output` (`logits`, `labels`,
`probabilities`, `files`), `height`, `width`, `threads`, `ms`, `fps`, `ms_quartiles`."""

OURS = "fast_scnn"


def markdown(result: Mapping[str, Any]) -> str:
    """All measurements as Markdown: for each number of threads, the table of the peers and that of every variant."""
    rows: Sequence[Row] = result["rows"]
    lines = [f"# {result['title']}", "", result["subtitle"], ""]
    for threads in _distinct(rows, "threads"):
        here = [row for row in rows if row["threads"] == threads]
        name = "1 thread" if threads == 1 else f"{threads} threads"
        lines += [f"## Frames a second to labels, {name}", "", *peers_table(here, result["models"]), ""]
        lines += [*_notes(result["models"], {row["model"] for row in here}), ""]
        for size in _sizes(here):
            lines += [
                f"## {_size_text(size)}, {name}: every variant, milliseconds",
                "",
                *variants_table(here, size),
                "",
            ]
    return "\n".join(lines)


def peers_table(rows: Sequence[Row], models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row for each model: its fastest variant as its users run it, with the fused head, and the paper's number."""
    sizes = _sizes(rows)
    columns = ["model", "parameters, M (paper)"]
    for size in sizes:
        columns += [f"{_size_text(size)}: fps", "best as", "ours is faster by", "with the fused head", "paper"]
    cells = []
    for model in _distinct(rows, "model"):
        info = models[model]
        paper = f" ({info['paper_parameters']:.2f})" if info.get("paper_parameters") else ""
        line = [info["name"], f"{info['parameters'] / 1e6:.2f}{paper}" if info.get("parameters") else ""]
        for size in sizes:
            own = best(rows, model, size, heads=("own", "fused") if model == OURS else ("own",))
            given = best(rows, model, size, heads=("fused",))
            line += [
                f"{own['fps']:.2f}" if own else "",
                _variant(own) if own else "",
                _ratio(rows, model, own),
                f"{given['fps']:.2f}" if given else "",
                _published(info["name"], sizes.index(size), size),
            ]
        cells.append(line)
    return markdown_table(columns, cells, numeric=[i for i, name in enumerate(columns) if name != "best as" and i])


def variants_table(rows: Sequence[Row], size: tuple[int, int]) -> list[str]:
    """One row for each model, runtime and precision at one size: medians, milliseconds."""
    here = [row for row in rows if (row["height"], row["width"]) == size and "beside" not in row]
    columns = {
        ("none", "logits"): "network alone",
        ("own", "labels"): "labels",
        ("fused", "labels"): "labels, fused head",
        ("own", "probabilities"): "probabilities",
        ("fused", "probabilities"): "probabilities, fused head",
        ("own", "files"): "file to file",
        ("fused", "files"): "file to file, fused head",
    }
    cells = []
    for key in dict.fromkeys((row["model"], row["runtime"], row["precision"]) for row in here):
        found = {(row["head"], row["output"]): row for row in here if _key(row) == key}
        cells.append([*key, *(_milliseconds(found.get(column)) for column in columns)])
    return markdown_table(
        ["model", "runtime", "precision", *columns.values()], cells, numeric=range(3, 3 + len(columns))
    )


def best(
    rows: Sequence[Row], model: str, size: tuple[int, int], *, heads: Sequence[str], precision: str = "float32"
) -> Row | None:
    """The fastest variant of a model that gives labels at one size; None if none was measured."""
    found = [
        row
        for row in rows
        if row["model"] == model
        and "beside" not in row
        and (row["height"], row["width"]) == size
        and row["output"] == "labels"
        and row["head"] in heads
        and row["precision"] == precision
    ]
    return min(found, key=lambda row: row["ms"], default=None)


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Frames a second over parameters and over the paper's mIoU, at the largest size and one thread; a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    rows = [row for row in result["rows"] if row["threads"] == 1] or result["rows"]
    size = _sizes(rows)[0]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    known = {model.name: model.class_miou for model in TABLE_4}
    points: dict[Any, list[tuple[float, float, str]]] = {left: [], right: []}
    for model in _distinct(rows, "model"):
        info = result["models"][model]
        fastest = best(rows, model, size, heads=("own", "fused") if model == OURS else ("own",))
        if fastest is None:
            continue
        look: dict[str, Any] = {"color": "tab:red" if model == OURS else "tab:blue", "s": 45, "zorder": 3}
        places = (
            (left, info["parameters"] / 1e6 if info.get("parameters") else None),
            (right, known.get(info["name"])),
        )
        for axes, place in places:
            if place is not None:
                axes.scatter([place], [fastest["fps"]], **look)
                points[axes].append((place, fastest["fps"], info["name"]))
    left.set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel="frames a second to labels")
    right.set(xlabel="class mIoU on the Cityscapes test set, as the paper gives it, %")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.25)
        axes.margins(x=0.15)
        _name(axes, points[axes])
    figure.suptitle(f"{_size_text(size)}, {result['subtitle']}", fontsize=10)
    figure.savefig(path, dpi=130)


def _name(axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Write the name of each point above it, or below it if another point is close above."""
    pixels = [axes.transData.transform(point[:2]) for point in points]
    for (x, y, name), (across, up) in zip(points, pixels, strict=True):
        crowded = any(abs(other[0] - across) < 60 and 0 < other[1] - up < 30 for other in pixels)
        axes.annotate(name, (x, y), xytext=(6, -12 if crowded else 5), textcoords="offset points", fontsize=9)


def _ratio(rows: Sequence[Row], model: str, own: Row | None) -> str:
    """How many times faster Fast-SCNN was in the same rounds."""
    if own is None:
        return ""
    size = own["height"], own["width"]
    mark = f"{model}, {own['runtime']}"
    beside = [row for row in rows if row.get("beside") == mark and (row["height"], row["width"]) == size]
    return f"{own['ms'] / beside[0]['ms']:.2f}" if beside else ""


def _published(name: str, place: int, size: tuple[int, int]) -> str:
    """The paper's frames a second at a size: `75.3 (Titan X)`."""
    sizes = [(1024, 2048), (512, 1024), (256, 512)]
    if size not in sizes:
        return ""
    published = []
    for card, table in TABLE_6.items():
        for row, values in table.items():
            value = values[sizes.index(size)]
            if value is not None and row in (name, f"{name} cls"):
                published.append(f"{value} ({card.partition(' (')[0]})")
    return ", ".join(published)


def _notes(models: Mapping[str, Mapping[str, Any]], shown: set[str]) -> list[str]:
    return [f"- {models[model]['name']}: {models[model]['note']}" for model in models if model in shown]


def _variant(row: Row) -> str:
    return f"{row['runtime']} + fused head" if row["head"] == "fused" else str(row["runtime"])


def _key(row: Row) -> tuple[str, str, str]:
    return row["model"], row["runtime"], row["precision"]


def _milliseconds(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row['ms']:.1f}"


def _sizes(rows: Sequence[Row]) -> list[tuple[int, int]]:
    return sorted({(row["height"], row["width"]) for row in rows}, reverse=True)


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _distinct(rows: Sequence[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))
