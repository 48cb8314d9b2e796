"""Evaluate a checkpoint on whole frames: `python src/eval.py --help`."""

from omegaconf import DictConfig

from fastscnn.cli.launch import launch


def evaluate(config: DictConfig) -> None:
    """Run one evaluation."""
    from fastscnn.training.evaluate import evaluate

    evaluate(config)


if __name__ == "__main__":
    launch("eval", evaluate)
