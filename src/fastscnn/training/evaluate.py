"""One evaluation of a trained checkpoint on whole frames, or of an image classifier on its images."""

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from fastscnn.data.datamodules.build import TrainingData, build_image_data, title
from fastscnn.data.datamodules.external import ExternalData
from fastscnn.data.datamodules.imagenet import NAME as IMAGENET
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder_splits import NAME as FOLDER
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import Checkpoint, open_checkpoint, rebuild
from fastscnn.inference.segmenter import Segmenter
from fastscnn.models.external import short_name
from fastscnn.runs.folders import new_run_id, refuse_existing, run_folder
from fastscnn.runs.process import describe_process
from fastscnn.training.accelerator import choose_accelerator, choose_precision, quiet
from fastscnn.training.calibrate import calibrated_scores, check_calibrate
from fastscnn.training.checks import check_classes
from fastscnn.training.evaluate_report import record_of, report_evaluation
from fastscnn.training.evaluated_data import data_config, evaluation_data
from fastscnn.training.metrics import Scores
from fastscnn.training.pictures import DrawFrames
from fastscnn.training.progress import ProgressLine
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.task import Result, Task
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import WriteError, check_writable, write_json, write_png
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.shared_folder import writing_in


def evaluate(config: DictConfig) -> Result:
    """Evaluate the checkpoint of a composed `eval` config; print the table and write `eval.json`.

    IoU of a segmentation network, top-1 and top-5 of an image classifier.

    Raises:
        RequestError: The checkpoint or the data is not what the other needs, or a folder cannot be written.
        WriteError: The disk became full; the table is printed all the same.
    """
    quiet()
    keep_freed_memory()
    plain: Any = OmegaConf.to_container(config, resolve=True)
    _check_folders(plain)
    changes = {"skip": plain.get("model", {}).get("skip"), "resolution": plain.get("resolution")}
    checkpoint = open_checkpoint(plain["checkpoint"], **changes, weights=plain["weights"], trust=plain["trust"])
    return _evaluate_images(plain, checkpoint) if checkpoint.is_classifier else _evaluate_frames(plain, checkpoint)


def _evaluate_frames(plain: Mapping[str, Any], checkpoint: Checkpoint) -> Scores:
    split = plain["split"]
    module = Segmentation.from_checkpoint(checkpoint, predictor=_predictor(plain, checkpoint))
    data = evaluation_data(plain, module.config["data"])
    _check_classes(module, data, plain["checkpoint"])
    data.prepare_data()
    saving = _saving(plain["save_predictions"], data)
    if saving is None:
        data.check_labels(split, "Choose a split that has labels, or save_predictions=DIR to only predict.")
    if isinstance(data, SegmentationData):
        data.check_shared_memory(split)
    if calibrates := bool(plain.get("calibrate")):
        check_calibrate(plain, checkpoint, data)
    if plain["backend"] == "torch":
        module.measure_calibration(fit=calibrates)
    folder = _folder(plain, f"eval-{data.dataset}-{split}")
    drawn = DrawFrames(plain["pictures"], module.classes)
    callbacks: list[pl.Callback] = [drawn, *([saving] if saving else [])]
    trainer = _trainer(plain["trainer"], module, folder, callbacks)
    with writing_in(saving.folder) if saving and saving.folder.is_dir() else nullcontext():
        trainer.test(module, dataloaders=data.whole_frames(split), verbose=False)
    scores = module.scores["test"]
    calibrated: dict[str, Any] = {}
    if scores.pixels:
        averaged = f", {module.weights} weights" if module.weights else ""
        how = f"{_network(module)}, resolution {_resolution(module)}{averaged}"
        print(f"{title(data)} {split}, {how}, {plain['checkpoint']}")
        Console().print(scores.table())
        calibrated = calibrated_scores(plain, module, data, trainer) if module.calibration else {}
    else:
        print(f"{split} has no labelled pixel: the frames were predicted, not evaluated.")
    refuse_existing(folder)
    details = {
        "pixels": scores.pixels,
        "resolution": _resolution(module),
        "pictures": drawn.paths,
        "absent": scores.absent,
        **({"calibration": calibrated} if calibrated else {}),
    }
    _write(folder, plain, module, data, scores, details)
    drawn.save(folder)
    report_evaluation(plain, folder, module, scores, data.dataset)
    if saving and not saving.error:
        print(f"The predictions: {saving.folder}")
    print(f"The evaluation's folder: {folder}")
    if saving and saving.error:
        raise saving.error
    return scores


def _evaluate_images(plain: Mapping[str, Any], checkpoint: Checkpoint) -> Result:
    from fastscnn.training.classification import Classification  # timm is slow to import

    for setting, value in (
        ("skip", plain.get("model", {}).get("skip")),
        ("resolution", plain.get("resolution")),
        ("save_predictions", plain["save_predictions"]),
        ("calibrate", plain.get("calibrate") or None),
        ("backend", None if plain["backend"] == "torch" else plain["backend"]),
    ):
        if value is not None:
            raise RequestError(
                f"{setting} is for segmentation, and checkpoint={plain['checkpoint']} is an image classifier.",
                key=setting,
                fix=f"Leave {setting} out.",
            )
    split = plain["split"]
    module = Classification.from_checkpoint(checkpoint)
    settings = data_config(plain["data"], module.config["data"])
    if settings["dataset"] != IMAGENET:
        raise RequestError(
            f"checkpoint={plain['checkpoint']} is an image classifier, and data={settings['dataset']} is for "
            "segmentation.",
            key="data",
            fix="Leave data= out, or use data=imagenet.",
        )
    data = build_image_data(settings)
    _check_classes(module, data, plain["checkpoint"])
    data.check_shared_memory(split)
    loader = data.whole_frames(split)
    folder = _folder(plain, f"eval-{data.dataset}-{split}")
    _trainer(plain["trainer"], module, folder, []).test(module, dataloaders=loader, verbose=False)
    scores = module.scores["test"]
    size = f"{data.crop_size[0]}x{data.crop_size[1]}"
    print(f"{title(data)} {split}, {size}, {plain['checkpoint']}")
    Console().print(scores.table())
    refuse_existing(folder)
    _write(folder, plain, module, data, scores, {"crop_size": list(data.crop_size)})
    report_evaluation(plain, folder, module, scores, data.dataset)
    print(f"The evaluation's folder: {folder}")
    return scores


def _predictor(plain: Mapping[str, Any], checkpoint: Checkpoint) -> Callable[[Tensor], Tensor] | None:
    """What makes the labels where another backend than training's own is asked for."""
    if plain["backend"] == "torch":
        return None
    device = "cpu" if plain["trainer"]["accelerator"] == "cpu" else "auto"
    segmenter = Segmenter.from_trained(rebuild(checkpoint), backend=plain["backend"], device=device)

    def labels(images: Tensor) -> Tensor:
        found: Tensor = torch.from_numpy(segmenter(images.permute(0, 2, 3, 1).numpy(force=True)))
        return found.to(images.device)

    return labels


def _trainer(settings: Mapping[str, Any], module: Task, folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    accelerator = choose_accelerator(settings["accelerator"])
    precision: Any = choose_precision(settings["precision"] or module.config["trainer"]["precision"], accelerator)
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        logger=False,
        callbacks=[*callbacks, ProgressLine()],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


class SavePredictions(pl.Callback):
    """Write each prediction as a label file with the data set's own values.

    If a file cannot be written, the evaluation continues without the files, because its scores matter more.

    Attributes:
        error: The error that stopped the writing.

    Args:
        folder: The folder of the files.
        file_name: Maps a frame's name to its file name; for Cityscapes, the names that the official evaluation and its
            server expect. The result contains a folder if the frame's name does.
    """

    def __init__(self, folder: Path, file_name: Callable[[str], str]) -> None:
        self.folder = folder
        self.file_name = file_name
        self.error: WriteError | None = None

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Write the frames of one batch."""
        assert isinstance(pl_module, Segmentation)
        if self.error:
            return
        for name, prediction in zip(batch["name"], outputs["predictions"].cpu().numpy(), strict=True):
            label = pl_module.classes.decode(prediction.astype(np.uint8))
            path = self.folder / self.file_name(name)
            try:
                write_png(path, label)
            except WriteError as error:
                self.error = error
                print(f"{error}: no more predictions are saved, the evaluation continues.", file=sys.stderr)
                return


def _saving(folder: str | None, data: SegmentationData | ExternalData) -> SavePredictions | None:
    """What writes the predictions, where they are asked for."""
    if not folder:
        return None
    if isinstance(data, ExternalData):
        raise RequestError(
            "save_predictions names files as their frames, and data.module gives no names.",
            key="save_predictions",
            fix="Leave it out, or use predict.py.",
        )
    return SavePredictions(Path(folder).expanduser(), data.source.prediction_name)


def _check_folders(plain: Mapping[str, Any]) -> None:
    """Refuse folders that cannot be written, before anything is computed."""
    if plain["save_predictions"]:
        check_writable(Path(plain["save_predictions"]).expanduser(), "save_predictions")
    if given := plain["paths"]["run_dir"]:
        refuse_existing(Path(given))
        check_writable(Path(given), "paths.run_dir")
    else:
        check_writable(Path(plain["paths"]["output_dir"]), "paths.output_dir")


def _check_classes(module: Task, data: TrainingData, checkpoint: str) -> None:
    fix = "Leave data= out, or name a checkpoint of that data."
    if data.dataset == FOLDER:
        fix = "Give classes.yaml the names and the order that the network was trained with, or train again."
    check_classes(module.classes.names, data, checkpoint, "checkpoint", fix)


def _folder(plain: Mapping[str, Any], name: str) -> Path:
    given = plain["paths"]["run_dir"]
    return Path(given) if given else run_folder(Path(plain["paths"]["output_dir"]), name, new_run_id())


def _network(module: Segmentation) -> str:
    model = module.config["model"]
    return f"skip {model['skip']}" if "skip" in model else short_name(model)


def _resolution(module: Segmentation) -> str:
    resolution = module.config.get("resolution", {"name": "full"})
    return str(resolution["name"] if "name" in resolution else resolution["scale"])


def _write(
    folder: Path,
    plain: Mapping[str, Any],
    module: Task,
    data: TrainingData,
    scores: Result,
    details: Mapping[str, Any],
) -> None:
    split = plain["split"]
    checkpoint = on_disk(plain["checkpoint"]).resolve()
    content = {
        "checkpoint": str(checkpoint),
        "run": record_of(checkpoint).get("id"),
        "data": data.dataset,
        "split": split,
        "dataset": data.described(split),
        "frames": len(data.frames(split)),
        "model": module.config["model"],
        "metrics": scores.named(split),
        **({"weights": module.weights} if module.weights else {}),
        **({} if plain["backend"] == "torch" else {"backend": plain["backend"]}),
        **details,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_process(),
    }
    write_json(folder / "eval.json", content)
