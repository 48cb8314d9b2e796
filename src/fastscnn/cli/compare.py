"""Compare runs from their records alone: `python src/compare.py` and `fastscnn-compare`."""

from omegaconf import DictConfig

from fastscnn.cli.launch import launch


def compare(config: DictConfig) -> None:
    """Write one comparison."""
    from fastscnn.reports.comparison.compare import compare

    compare(config)


def main() -> None:
    """The command, as `src/compare.py` and `fastscnn-compare` call it."""
    launch("compare", compare)
