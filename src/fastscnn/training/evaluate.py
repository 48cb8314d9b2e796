"""One evaluation of a trained checkpoint on whole frames, or of an image classifier on its images."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from fastscnn.data.datamodules.build import TrainingData, build_image_data, title
from fastscnn.data.datamodules.imagenet import NAME as IMAGENET
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder_splits import NAME as FOLDER
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import Checkpoint, open_checkpoint, rebuild
from fastscnn.inference.preprocess import shrunk_size
from fastscnn.inference.segmenter import AUTO, Segmenter, longest_of
from fastscnn.models.external import short_name
from fastscnn.runs.evaluation_report import PAGE, EvaluationReport
from fastscnn.runs.folders import new_run_id, refuse_existing, run_folder
from fastscnn.runs.process import describe_process
from fastscnn.training.accelerator import choose_accelerator, choose_precision, quiet
from fastscnn.training.breakdown import Breakdown
from fastscnn.training.calibrate import calibrated_scores, check_calibrate
from fastscnn.training.checks import check_classes
from fastscnn.training.evaluate_report import record_of, report_evaluation
from fastscnn.training.evaluated_data import data_config, evaluation_data
from fastscnn.training.metrics import Scores
from fastscnn.training.pictures import DrawFrames
from fastscnn.training.progress import ProgressLine
from fastscnn.training.saved_predictions import saving_predictions
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.task import Result, Task
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, write_json
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.progress import say
from fastscnn.utils.shared_folder import writing_in

WriteReport = Callable[[EvaluationReport, Path], None]
"""Writes the page of an evaluation."""


def evaluate(config: DictConfig, write_report: WriteReport | None = None) -> Result:
    """Evaluate the checkpoint of a composed `eval` config; print the table and write `eval.json`.

    IoU of a segmentation network, top-1 and top-5 of an image classifier.

    Args:
        config: The settings.
        write_report: Writes the page of report=true.

    Raises:
        RequestError: The checkpoint or the data is not what the other needs, or a folder cannot be written.
        WriteError: The disk became full; the table is printed all the same.
    """
    quiet()
    keep_freed_memory()
    plain: Any = OmegaConf.to_container(config, resolve=True)
    _check_trainer(plain["trainer"])
    _check_folders(plain)
    changes = {"skip": plain.get("model", {}).get("skip"), "resolution": plain.get("resolution")}
    checkpoint = open_checkpoint(plain["checkpoint"], **changes, weights=plain["weights"], trust=plain.get("trust"))
    if checkpoint.is_classifier:
        return _evaluate_images(plain, checkpoint)
    return _evaluate_frames(plain, checkpoint, write_report if plain.get("report") else None)


def _evaluate_frames(plain: Mapping[str, Any], checkpoint: Checkpoint, write_report: WriteReport | None) -> Scores:
    split = plain["split"]
    module = Segmentation.from_checkpoint(checkpoint, predictor=_predictor(plain, checkpoint))
    data = evaluation_data(plain, module.config["data"])
    _check_classes(module, data, plain["checkpoint"])
    data.prepare_data()
    saving = saving_predictions(plain["save_predictions"], data)
    if saving is None:
        data.check_labels(split, "Choose a split that has labels, or save_predictions=DIR to only predict.")
    elif write_report:
        data.check_labels(split, "Choose a split that has labels, or leave report out.")
    if isinstance(data, SegmentationData):
        data.check_shared_memory(split)
    _say_if_large(data, split, checkpoint)
    if calibrates := bool(plain.get("calibrate")):
        check_calibrate(plain, checkpoint, data)
    if plain["backend"] == "torch":
        module.measure_calibration(fit=calibrates)
    folder = _folder(plain, f"eval-{data.dataset}-{split}")
    drawn = DrawFrames(plain["pictures"], module.classes)
    breakdown = Breakdown(module.classes) if write_report else None
    callbacks: list[pl.Callback] = [callback for callback in (drawn, breakdown, saving) if callback]
    trainer = _trainer(plain["trainer"], module, folder, callbacks)
    with writing_in(saving.folder) if saving and saving.folder.is_dir() else nullcontext():
        trainer.test(module, dataloaders=data.whole_frames(split), verbose=False)
    scores = module.scores["test"]
    calibrated: dict[str, Any] = {}
    heading = f"{title(data)} {split}"
    if scores.pixels:
        averaged = f", {module.weights} weights" if module.weights else ""
        how = f"{_network(module)}, resolution {_resolution(module)}{averaged}"
        print(f"{heading}, {how}, {plain['checkpoint']}")
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
        **({"report": {"page": PAGE, **breakdown.content(split)}} if breakdown else {}),
    }
    content = _write(folder, plain, module, data, scores, details)
    drawn.save(folder)
    if breakdown and write_report:
        colors = dict(zip(module.classes.names, module.classes.colors, strict=True))
        matrix = module.matrix or []
        write_report(EvaluationReport(heading, content, colors, matrix, breakdown.worst), folder / PAGE)
        print(f"The page: {folder / PAGE}")
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
        ("report", plain.get("report") or None),
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


def _say_if_large(data: TrainingData, split: str, checkpoint: Checkpoint) -> None:
    """Say where `predict.py` shows the network other pixels: of frames much larger than those it was trained on."""
    config = checkpoint.config
    trained_on = config.get("data", {}).get("frame_size")
    if trained_on is None or not isinstance(data, SegmentationData):
        return
    height, width = data.reading.size(data.frames(split)[0].image)
    seen = shrunk_size((height, width), longest_of(AUTO, trained_on))
    if seen != (height, width):
        scale = config.get("resolution", {}).get("scale", 1.0) * max(seen) / max(height, width)
        say(
            f"The frames have {width}x{height} pixels and are evaluated whole, while predict.py shows the network "
            f"{seen[1]}x{seen[0]} of them, because it was trained on {trained_on[1]}x{trained_on[0]}: "
            f"resolution=full resolution.scale={scale:.4g} evaluates about that."
        )


def _predictor(plain: Mapping[str, Any], checkpoint: Checkpoint) -> Callable[[Tensor], Tensor] | None:
    """What makes the labels where another backend than training's own is asked for."""
    if plain["backend"] == "torch":
        return None
    device = "cpu" if plain["trainer"]["accelerator"] == "cpu" else "auto"
    segmenter = Segmenter.from_trained(rebuild(checkpoint), backend=plain["backend"], device=device, longest_side=None)

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


def _check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse what `_trainer` does not take, as several devices."""
    for name in settings.keys() - {"accelerator", "precision"}:
        raise RequestError(
            f"trainer.{name}={settings[name]} has no effect: an evaluation runs on one device.",
            key=f"trainer.{name}",
            fix="Leave it out.",
        )


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
) -> dict[str, Any]:
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
    return content
