"""Writing checkpoints so that a kill or a full disk never destroys the last good one."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from fastscnn.runs.checkpoint import without_best
from fastscnn.runs.torch_file import read_torch_file
from fastscnn.utils.files import replaced


class CheckpointFiles(TorchCheckpointIO):
    """Lightning plugin that writes checkpoint files to a local disk.

    Lightning's own plugin writes to `$TMPDIR` first. From there to another file system the file is copied, so that a
    kill leaves half a file, and `$TMPDIR` may be too small. This plugin writes a file beside the old one, flushes it to
    the disk, and then renames it over the old one.

    Args:
        best_lost: The run's best checkpoint is missing, so what another checkpoint says of it is dropped on reading.
    """

    def __init__(self, *, best_lost: bool = False) -> None:
        super().__init__()
        self.best_lost = best_lost

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: It cannot be written; names the file and the reason. The old file is still there.
        """
        content = io.BytesIO()  # writing to a full disk, torch.save would abort the process
        torch.save(checkpoint, content)
        with replaced(Path(path), durable=True) as target:
            target.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain containers; nothing in it is ever executed."""
        content: dict[str, Any] = read_torch_file(path, map_location)
        return without_best(content) if self.best_lost else content
