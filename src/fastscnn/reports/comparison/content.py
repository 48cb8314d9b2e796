"""The content of a comparison, before it is written as a page, as Markdown or as CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: The question that it answers.
        columns: Titles of the columns.
        rows: The cells; "" for an empty one.
        caption: What a reader must know to understand it.
        numeric: Positions of the columns with numbers, which are aligned to the right.
        heat: The number, in points, that gets the full colour where the cells are differences; 0 for a plain table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    heat: float = 0.0


@dataclass(frozen=True)
class Gap:
    """A group's difference to the baseline of its data, in percentage points, as the forest plot draws it.

    Attributes:
        place: The data.
        label: Of the group.
        baseline: Label of the baseline.
        mean: The difference; None where it is not given.
        interval: Its 95 % interval; None where a side has one seed.
        text: The difference as text, or why there is none.
    """

    place: str
    label: str
    baseline: str
    mean: float | None
    interval: tuple[float, float] | None
    text: str


@dataclass(frozen=True)
class Curve:
    """Validations of one run: epochs and optimizer steps so far, and the metric in percent."""

    epochs: Sequence[float]
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class RunView:
    """One run on the page.

    Attributes:
        id: The id of the run.
        label: Short and unique, such as `fine-skip_zero · seed 0`.
        group: Label of the group of runs that differ only in the seed; each group has a colour.
        status: `finished`, `running`, `interrupted` or `failed`.
        cells: Column title to text, for the table of all runs.
        curve: Its validations; may be empty.
        place: The data that it was trained and evaluated on.
        counts: Whether it is part of the means: it is finished, and the newest of its seed.
        iou: Class name to IoU in percent, of its best validation.
        pretrained: Whether it was pre-trained: drawn dashed, as in Figure 4.
        more: Every other logged metric, with fewer points.
    """

    id: str
    label: str
    group: str
    status: str
    cells: Mapping[str, str]
    curve: Curve
    place: str = ""
    counts: bool = True
    iou: Mapping[str, float] = field(default_factory=dict)
    pretrained: bool = False
    more: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class GalleryRow:
    """One frame of one run.

    Attributes:
        run: Label of the run.
        frame: Name of the frame.
        picture: Image of three equal panels side by side: input, truth, prediction (two without truth).
        without_skip: The same for the network without its skip connection; None if that was not evaluated.
    """

    run: str
    frame: str
    picture: Path
    without_skip: Path | None = None


@dataclass(frozen=True)
class EvaluationPage:
    """The page of an evaluation of one of the runs.

    Attributes:
        run: Label of the run.
        cells: What was evaluated, and the class mIoU in percent; see `evaluation_pages.COLUMNS`.
        address: Of the page, as it is linked.
    """

    run: str
    cells: Sequence[str]
    address: str


@dataclass(frozen=True)
class Comparison:
    """The whole content of a comparison.

    Attributes:
        title: Its heading.
        subtitle: Number of runs, filter and time.
        metric: The metric of curves and bars, such as `val/miou`, percent.
        columns: Columns of the table of all runs; `numeric` ones sort by value.
        numeric: Titles of the columns that hold numbers.
        runs: All runs, in the table's order.
        tables: Groups of seeds, then the paper's tables.
        gallery: Frames, in the order of the runs.
        paper_iou: Series name to class IoU in percent: Table 5, drawn beside the runs if the classes agree.
        warnings: Files that could not be read.
        gaps: The differences to the baselines.
        evaluations: The pages of evaluations of the runs.
        refresh: Seconds after which an open page loads itself anew; 0 for never.
    """

    title: str
    subtitle: str
    metric: str
    columns: Sequence[str]
    numeric: frozenset[str]
    runs: Sequence[RunView]
    tables: Sequence[Table]
    gallery: Sequence[GalleryRow] = ()
    paper_iou: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    gaps: Sequence[Gap] = ()
    evaluations: Sequence[EvaluationPage] = ()
    refresh: int = 0
