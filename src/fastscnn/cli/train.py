"""Train a network, evaluate it and record the run: `python src/train.py` and `fastscnn-train`."""

from typing import TYPE_CHECKING

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(config: "DictConfig") -> float | None:
    """Run one training; returns its `optimized_metric`."""
    from fastscnn.training.fit import fit

    return fit(config)


def main() -> None:
    """The command, as `src/train.py` and `fastscnn-train` call it."""
    start("train", train)
