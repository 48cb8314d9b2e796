"""Compare runs from their records alone: `python src/compare.py --help`."""

from omegaconf import DictConfig

from fastscnn.cli.launch import launch


def compare(config: DictConfig) -> None:
    """Write one comparison."""
    from fastscnn.reports.comparison.compare import compare

    compare(config)


if __name__ == "__main__":
    launch("compare", compare)
