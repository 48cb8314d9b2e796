"""Evaluate a checkpoint on whole frames: `python src/eval.py` and `fastscnn-eval`."""

from omegaconf import DictConfig

from fastscnn.cli.launch import launch


def evaluate(config: DictConfig) -> None:
    """Run one evaluation."""
    from fastscnn.training.evaluate import evaluate

    evaluate(config)


def main() -> None:
    """The command, as `src/eval.py` and `fastscnn-eval` call it."""
    launch("eval", evaluate)
