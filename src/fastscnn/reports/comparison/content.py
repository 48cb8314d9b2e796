"""What a comparison holds, before it is written as a page, as Markdown or as CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it answers.
        columns: Titles of the columns.
        rows: Cells; "" where there is nothing.
        note: What a reader must know to read it right.
        numeric: Which columns hold numbers, by position; they are aligned to the right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Curve:
    """Validations of one run: epochs done, optimizer steps done, and the metric in percent."""

    epochs: Sequence[float]
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it.

    Attributes:
        id: The run's own.
        label: Short and unique, such as `fine-skip_zero · seed 0`.
        group: Label of the runs that differ in the seed alone; one colour.
        status: `finished`, `running`, `interrupted` or `failed`.
        cells: Column title to text, for the table of all runs.
        curve: Its validations; may be empty.
        place: What it was trained and judged on.
        counts: Whether it is in the means: finished, and the newest of its seed.
        iou: Class name to IoU in percent, of its best validation.
        pretrained: Drawn dashed, as in Figure 4.
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


@dataclass(frozen=True)
class GalleryRow:
    """One frame of one run.

    Attributes:
        run: Label of the run.
        frame: Name of the frame.
        picture: Image of three equal panels side by side: input, truth, prediction (two without truth).
        without_skip: The same of the network without its skip connection; None where that was not evaluated.
    """

    run: str
    frame: str
    picture: Path
    without_skip: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison says.

    Attributes:
        title: Its heading.
        subtitle: Where the runs are from, when, and what was filtered.
        metric: What curves and bars show, such as `val/miou`, percent.
        columns: Columns of the table of all runs; `numeric` ones sort by value.
        numeric: Titles of the columns that hold numbers.
        runs: All runs, in the table's order.
        tables: Groups of seeds, then the paper's tables.
        gallery: Frames, the most telling runs first.
        paper_iou: Series name to class IoU in percent: Table 5, drawn beside the runs' own where the classes agree.
        warnings: What could not be read.
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
