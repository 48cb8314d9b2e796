"""Compare runs from their records alone: `python src/compare.py` and `fastscnn-compare`."""

from typing import TYPE_CHECKING

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compare(config: "DictConfig") -> None:
    """Write one comparison, or renew it while runs go on."""
    from fastscnn.reports.comparison.compare import compare, watch
    from fastscnn.utils.values import check_switch

    check_switch("watch", config.watch)
    (watch if config.watch else compare)(config)


def main() -> None:
    """The command, as `src/compare.py` and `fastscnn-compare` call it."""
    start("compare", compare)
