"""Train a network, evaluate it and record the run: `python src/train.py` and `fastscnn-train`."""

from typing import TYPE_CHECKING

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(config: "DictConfig") -> None:
    """Run one training."""
    from fastscnn.training.fit import fit

    fit(config)


def main() -> None:
    """The command, as `src/train.py` and `fastscnn-train` call it."""
    start("train", train)
