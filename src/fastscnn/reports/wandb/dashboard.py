"""The content of a W&B dashboard for the paper's questions: sections, panels and metrics, as data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.runs.identity import GROUPS
from fastscnn.runs.record import STEP

EPOCH = "epoch"
BEST = "best/miou"
"""In the summary of every run, from its own record: it survives resuming."""
PICTURES = "val/pictures/"
RECIPE = "recipe"
"""The key of W&B's config that only runs share which differ in nothing but the seed: no trial is part of a mean."""
LEARNING_RATE = "config.optimizer.lr"
"""The key of the learning rate in W&B's config, which holds the full config under `config`."""


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        kind: `curve` over `x`; `bars` of the summary; `scatter` of the summary over the config's key `x`; `pictures`.
        metrics: Logged names or, for bars and scatter, names of the summary.
    """

    kind: Literal["curve", "bars", "scatter", "pictures"]
    title: str
    metrics: tuple[str, ...]
    x: str = STEP


@dataclass(frozen=True)
class Section:
    """One question and the panels that answer it.

    Attributes:
        compared: Keys of the W&B config that the question is about, the data among them: runs on other data are
            never averaged. None of them: each run stands for itself.
        job_type: `train`, or `eval` for what `eval.py` reports.
    """

    title: str
    question: str
    compared: tuple[str, ...]
    panels: tuple[Panel, ...]
    job_type: str = "train"

    @property
    def grouping(self) -> tuple[str, ...]:
        """Keys of the W&B config that the runs of one mean share."""
        return (*self.compared, RECIPE) if self.compared else ()

    @property
    def fixed(self) -> dict[str, str]:
        """The paper's choices, group to option, that all compared runs have."""
        return {group: option for group, option in GROUPS.items() if self.compared and group not in self.compared}


def sections(pictures: Sequence[str] = ()) -> list[Section]:
    """The dashboard from top to bottom.

    Args:
        pictures: Names under `val/pictures/` that the project's runs have logged.
    """
    curves = (
        Panel("curve", "val/miou over steps", ("val/miou",)),
        Panel("curve", "val/miou over epochs", ("val/miou",), x=EPOCH),
    )
    best = Panel("bars", "best val/miou", (BEST,))
    return [
        Section(
            "Coarse labels and ImageNet pre-training",
            "Table 8: do they raise the accuracy? A bar is the best val/miou, the mean over the seeds.",
            ("data", "pretrain"),
            (best, curves[0]),
        ),
        Section(
            "Training curves",
            "Figure 4: val/miou over iterations and over epochs, with coarse labels and with pre-training.",
            ("data", "pretrain"),
            curves,
        ),
        Section(
            "The skip connection",
            "Section 3.2: what does the high-resolution branch contribute? Both networks are trained as they are.",
            ("data", "skip"),
            (best, *curves),
        ),
        Section(
            "The skip connection of trained networks",
            "Section 3.2, as the paper does it: eval.py checkpoint=FILE skip=zero logger=wandb takes it from a trained "
            "network.",
            ("data", "skip"),
            (Panel("bars", "miou of the evaluations", ("val/miou", "test/miou")),),
            job_type="eval",
        ),
        Section(
            "ReLU and ReLU6",
            "Section 3.1: which trains faster, which ends higher?",
            ("data", "activation"),
            (best, *curves),
        ),
        Section(
            "Input resolution",
            "Table 7: what does a half and a quarter of the resolution cost?",
            ("data", "resolution"),
            (best, *curves),
        ),
        Section(
            "Seeds",
            "How far is one run from the next? Smaller differences than these are no finding.",
            ("data", "seed"),
            (best, curves[0]),
        ),
        Section(
            "Learning rate",
            "Section 3.1: is 0.045 right? One point for each run.",
            (),
            (Panel("scatter", "best val/miou over learning rate", (BEST,), x=LEARNING_RATE),),
        ),
        Section(
            "Classes",
            "Table 5: the IoU of every class and category in the best validation.",
            ("data",),
            (
                Panel("bars", "IoU of every class", tuple(f"best/iou/{name}" for name in CITYSCAPES.names)),
                Panel(
                    "bars",
                    "IoU of every category",
                    tuple(f"best/category_iou/{name}" for name in CITYSCAPES.category_names),
                ),
                Panel("curve", "val/category_miou", ("val/category_miou",)),
                Panel("curve", "val/accuracy", ("val/accuracy",)),
            ),
        ),
        Section(
            "Training",
            "Does it go as it should?",
            (),
            (Panel("curve", "train/loss", ("train/loss",)), Panel("curve", "train/lr", ("train/lr",)), *curves),
        ),
        Section(
            "Pictures side by side",
            "Validation frames, a row for each run: prediction and truth are masks that can be switched on and off.",
            (),
            (Panel("pictures", "frames over steps", tuple(pictures)),),
        ),
    ]


def outline(content: Sequence[Section]) -> Iterator[str]:
    """Lines that describe the dashboard."""
    yield f"Workspace: every section; runs grouped by {', '.join((*GROUPS, RECIPE))}"
    yield "A report for each section: finished runs, grouped and chosen as its question needs"
    for section in content:
        yield ""
        yield section.title
        yield f"  {section.question}"
        if section.compared:
            yield (
                f"  report: {section.job_type} runs grouped by {', '.join(section.grouping)}; only those with "
                + ", ".join(f"{group}={option}" for group, option in section.fixed.items())
            )
        for panel in section.panels:
            yield f"  - {panel.kind}: {panel.title} ({_described(panel)})"


def _described(panel: Panel) -> str:
    if panel.kind == "pictures":
        return ", ".join(panel.metrics) or f"{PICTURES}NAME, for each name that the project's runs have"
    names = f"{panel.metrics[0]} to {panel.metrics[-1]}" if len(panel.metrics) > 3 else ", ".join(panel.metrics)
    return f"{names} over {panel.x}" if panel.kind in ("curve", "scatter") else names
