"""Look after runs: `python src/runs.py` and `fastscnn-runs`."""

from typing import TYPE_CHECKING

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def runs(config: "DictConfig") -> None:
    """Do one action."""
    from fastscnn.reports.manage.actions import act

    act(config)


def main() -> None:
    """The command, as `src/runs.py` and `fastscnn-runs` call it."""
    start("runs", runs)
