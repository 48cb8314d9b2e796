"""Evaluate a checkpoint on whole frames: `python src/eval.py` and `fastscnn-eval`."""

from typing import TYPE_CHECKING

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(config: "DictConfig") -> None:
    """Run one evaluation."""
    from fastscnn.reports.evaluation.page import write_page
    from fastscnn.training.evaluate import evaluate

    evaluate(config, write_page)


def main() -> None:
    """The command, as `src/eval.py` and `fastscnn-eval` call it."""
    start("eval", evaluate)
