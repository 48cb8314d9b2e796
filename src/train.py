"""Train a network, evaluate it and keep the run on record: `python src/train.py --help`."""

from omegaconf import DictConfig

from fastscnn.cli.launch import launch


def train(config: DictConfig) -> None:
    """Run one training."""
    from fastscnn.training.fit import fit

    fit(config)


if __name__ == "__main__":
    launch("train", train)
