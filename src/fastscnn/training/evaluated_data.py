"""The data that a checkpoint is evaluated on: that of its training, or another option."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastscnn.data.datamodules.adapted import NAME as EXTERNAL
from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datamodules.external import ExternalData, build_external
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder_splits import NAME as FOLDER
from fastscnn.data.datasets.folder_splits import with_recorded_lists
from fastscnn.runs.trust import check_trusted, trusted_packages
from fastscnn.utils.errors import RequestError
from fastscnn.utils.names import native


def evaluation_data(plain: Mapping[str, Any], saved: Mapping[str, Any]) -> SegmentationData | ExternalData:
    """The data module of an evaluation.

    Args:
        plain: The evaluation's settings.
        saved: The data config of the checkpoint, whose classes are called only where they are trusted.

    Raises:
        RequestError: A setting is wrong, or the checkpoint names a class that is not trusted.
    """
    settings = data_config(plain["data"], saved, plain["checkpoint"])
    if settings["dataset"] != EXTERNAL:
        return build_data(settings)
    if plain["data"].get("root"):
        raise RequestError(
            f"data.root={plain['data']['root']} has no effect, because data.module has arguments of its own.",
            key="data.root",
            fix="Set one of these, as in +data.module.NAME=VALUE.",
        )
    if "dataset" not in plain["data"]:
        settings["module"] = {**saved["module"], **plain["data"].get("module", {})}
        trust = trusted_packages(plain.get("trust"))
        check_trusted({"data": {"module": settings["module"]}}, source=str(plain["checkpoint"]), trust=trust)
    return build_external(settings)


def data_config(
    chosen: Mapping[str, Any], saved: Mapping[str, Any], checkpoint: str | Path | None = None
) -> dict[str, Any]:
    """The checkpoint's data config, or that of the chosen option; root and workers as set on the command line.

    If the root of the training does not exist, as on another machine, the root is taken from the environment. Where a
    run drew its splits, the checkpoint in its folder is evaluated on the frames that the run did not see.
    """
    settings = {key: value for key, value in chosen.items() if value is not None}
    if "dataset" in settings:
        return {"root": None, **settings}
    merged = {**saved, "root": saved.get("root") and native(saved["root"]), **settings}
    if merged["dataset"] == FOLDER:
        return dict(with_recorded_lists(merged, Path(checkpoint).expanduser().parent.parent)) if checkpoint else merged
    if merged["root"] and not Path(merged["root"]).expanduser().exists() and "root" not in settings:
        merged["root"] = os.environ.get("CITYSCAPES_DATASET", merged["root"])
    return merged
