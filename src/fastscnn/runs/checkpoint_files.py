"""Writing checkpoints so that a kill or a full disk never costs the last good one."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from fastscnn.runs.checkpoint import forget_best
from fastscnn.utils.files import replaced


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's plugin for checkpoint files on a local disk.

    Lightning's own goes through `$TMPDIR`: from another file system the file is copied into its place, where a kill
    leaves half of it, and `$TMPDIR` may be too small. Here a file is written beside its place, is on the disk before it
    takes it, and until then the file before stays.

    Args:
        best_lost: The run's best checkpoint is gone: what another one says of it is left out when that is read.
    """

    def __init__(self, *, best_lost: bool = False) -> None:
        super().__init__()
        self.best_lost = best_lost

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: It cannot be written; names the file and the reason. The file before is still there.
        """
        content = io.BytesIO()  # torch.save itself ends the process where the disk is full
        torch.save(checkpoint, content)
        with replaced(Path(path), durable=True) as target:
            target.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain containers; nothing in it is executed, whatever is asked for."""
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return forget_best(content) if self.best_lost else content
