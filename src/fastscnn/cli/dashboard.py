"""Create or update the project's W&B workspace and reports: `python src/dashboard.py` and `fastscnn-dashboard`."""

from typing import TYPE_CHECKING

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def dashboard(config: "DictConfig") -> None:
    """Show or save the dashboard."""
    from fastscnn.reports.wandb.dashboard import outline, sections

    if config.dry_run:
        print("\n".join(outline(sections())))
        return
    from fastscnn.reports.wandb.wandb_objects import save

    for title, address in save(config.entity, config.project, config.study).items():
        print(f"{title}: {address}")


def main() -> None:
    """The command, as `src/dashboard.py` and `fastscnn-dashboard` call it."""
    start("dashboard", dashboard)
