"""Fitting a temperature in an evaluation: what must hold for it, and the checkpoint that keeps it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import Checkpoint
from fastscnn.inference.shipped import NETWORKS, shipped_folder
from fastscnn.runs.checkpoint import META, read_checkpoint
from fastscnn.runs.safetensors import is_saved, saved_files
from fastscnn.training.calibration import TEMPERATURES
from fastscnn.training.metrics import percent
from fastscnn.training.seen_frames import seen_frames
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import replaced, write_json
from fastscnn.utils.plain_files import read_json
from fastscnn.utils.progress import say

KEY = "calibration"
"""Part of a checkpoint's config."""


def calibrated_scores(plain: Mapping[str, Any], module: Segmentation, data: Any, trainer: pl.Trainer) -> dict[str, Any]:
    """The calibration of an evaluation that is done, which is printed.

    With calibrate=true, the frames are evaluated once more at the fitted temperature, which the checkpoint keeps if
    the error is not greater with it.

    Raises:
        OSError: The checkpoint cannot be written.
    """
    assert module.calibration is not None
    found: dict[str, Any] = module.calibration.compute()
    if module.fit is not None:
        old, module.temperature = module.temperature, module.fit.temperature()
        module.measure_calibration()
        trainer.test(module, dataloaders=data.whole_frames(plain["split"]), verbose=False)
        fitted = module.calibration.compute()
        _say_if_at_an_end(module.temperature)
        change = f"the error was {percent(found['ece'])} %"
        if fitted["ece"] > found["ece"]:
            print(
                f"calibrate=true: {change}, and would be {percent(fitted['ece'])} % with the fitted temperature of "
                f"{module.temperature:.4g}: this is not kept."
            )
            module.temperature = old
        else:
            kept = {"temperature": module.temperature, "data": data.dataset, "split": plain["split"]}
            file = keep_temperature(plain["checkpoint"], kept | {"ece_before": found["ece"], "ece": fitted["ece"]})
            print(f"calibrate=true: {change}; the temperature of {module.temperature:.4g} is in {file} now.")
            found = fitted
    print(f"expected calibration error: {percent(found['ece'])} % (temperature {module.temperature:.4g})")
    return found | {"temperature": module.temperature}


def _say_if_at_an_end(temperature: float) -> None:
    for end, word in ((TEMPERATURES[0], "lowest"), (TEMPERATURES[-1], "highest")):
        if temperature == end:
            print(
                f"calibrate=true: a temperature of {end:g} is the {word} that is tried, so the best may lie beyond it: "
                "see whether the network is trained and these labels are right."
            )


def check_calibrate(plain: Mapping[str, Any], checkpoint: Checkpoint, data: object) -> None:
    """Check that a temperature can be fitted to these frames and kept.

    Args:
        plain: The config of the evaluation.
        checkpoint: What is evaluated.
        data: The data that is evaluated.

    Raises:
        RequestError: The network is evaluated otherwise than it is used, or was trained on some of the frames.
    """
    changed = {
        "backend": plain["backend"] if plain["backend"] != "torch" else None,
        "weights": plain["weights"] if plain["weights"] == "latest" else None,
        "skip": plain.get("model", {}).get("skip"),
        "resolution": plain.get("resolution") and plain["resolution"]["name"],
    }
    for key, value in changed.items():
        if value is not None:
            raise RequestError(
                f"calibrate=true with {key}={value}: the temperature would not belong to the network as it is used.",
                key="calibrate",
                fix=f"Leave {key} out.",
            )
    place = on_disk(plain["checkpoint"])
    folder = place if place.is_dir() else place.parent
    shipped = folder.resolve() in {shipped_folder(name).resolve() for name in NETWORKS}
    if shipped or place != Path(plain["checkpoint"]).expanduser():  # or from the Hub
        raise RequestError(
            f"calibrate=true would change {plain['checkpoint']} for everybody who uses it by its name here.",
            key="calibrate",
            fix=f"Copy {folder} and set checkpoint= to the copy.",
        )
    if not isinstance(data, SegmentationData):
        raise RequestError(
            "calibrate=true: which frames the network was trained on is not known for data of your own class.",
            key="calibrate",
            fix="Use one of the data options.",
        )
    seen, unknown = seen_frames(checkpoint, data, plain["split"], plain.get("trust"))
    if unknown:
        say(
            f"calibrate=true: of the frames that the network was trained on, not all are at hand ({', '.join(unknown)} "
            "not), so these could not be compared with them; on frames that it was trained on it is surer than "
            "elsewhere."
        )
    if seen:
        raise RequestError(
            f"calibrate=true with split={plain['split']}: the network was trained on {len(seen)} of these frames, "
            "where it is surer than elsewhere.",
            key="calibrate",
            fix="Choose a split that it was not trained on.",
        )


def keep_temperature(source: str | Path, found: Mapping[str, Any]) -> Path:
    """Write `temperature` and where it comes from into a checkpoint's config; its weights stay the same.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.
    """
    path = on_disk(source)
    if is_saved(path):
        _, file = saved_files(path)
        content = read_json(file)
        content["config"][KEY] = dict(found)
        write_json(file, content)
        return file
    checkpoint = read_checkpoint(path)
    meta = checkpoint[META]
    checkpoint[META] = meta | {"config": {**meta["config"], KEY: dict(found)}}
    with replaced(path) as target:
        torch.save(checkpoint, target)
    return path
