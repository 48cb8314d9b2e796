"""Train a network, evaluate it and record the run: `python src/train.py` and `fastscnn-train`."""

from omegaconf import DictConfig

from fastscnn.cli.launch import launch


def train(config: DictConfig) -> None:
    """Run one training."""
    from fastscnn.training.fit import fit

    fit(config)


def main() -> None:
    """The command, as `src/train.py` and `fastscnn-train` call it."""
    launch("train", train)
