"""What can be wrong with a training's settings together, before anything is read or computed.

Each value by itself is checked by the class or function that takes it.
"""

import difflib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from fastscnn.data.datamodules.adapted import NAME as EXTERNAL
from fastscnn.data.datamodules.build import TrainingData
from fastscnn.data.datamodules.imagenet import NAME
from fastscnn.models.build import FAST_SCNN, check_model
from fastscnn.runs.jobs import jobs_share_a_process, searches
from fastscnn.training.accelerator import choose_precision
from fastscnn.training.class_weights import check_class_weights
from fastscnn.training.distillation import check_distill
from fastscnn.training.fine_tuning import check_init
from fastscnn.training.layer_programs import PROGRAMS
from fastscnn.training.optim import build_optimizer
from fastscnn.training.own_loss import check_loss
from fastscnn.training.schedules import build_schedule
from fastscnn.training.task import Task
from fastscnn.training.transfer import check_pretrained
from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_number, check_whole

LONG = 100_000
"""Steps of the run for which the schedule is tried: more than any warm-up has."""


def check_settings(plain: Mapping[str, Any]) -> None:
    """Check a training's settings, all but those of its Trainer and its data, which are checked where they are taken.

    Args:
        plain: The settings; `trainer.accelerator` is no longer `auto`.

    Raises:
        RequestError: Names the setting and the fix.
    """
    trainer = plain["trainer"]
    check_whole("pictures", plain["pictures"])
    _check_multirun(trainer["devices"])
    check_model(plain["model"])
    _try_optimization(plain["optimizer"], plain["scheduler"])
    check_class_weights(plain["loss"].get("class_weights"))
    _check_step(plain)
    check_device(plain)
    _check_task(plain)
    check_pretrained(plain["model"]["name"], plain["pretrain"]["name"])
    classification = plain["data"]["dataset"] == NAME
    check_init(plain.get("init") or {}, plain["pretrain"]["name"], classification=classification)
    check_distill(plain.get("distill") or {}, classification=classification)


def _try_optimization(optimizer: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    """Check the `optimizer` and the `scheduler` config by building both for one weight, before there is a run's folder.

    Raises:
        RequestError: One of them cannot be built.
    """
    layer: nn.Module = nn.utils.skip_init(nn.Linear, 1, 1)  # type: ignore[no-untyped-call]  # takes no random numbers
    build_schedule(schedule, build_optimizer(layer, optimizer, torch.device("cpu")), LONG)


def check_heads(module: Task, overrides: Sequence[str]) -> None:
    """Check that a weight of auxiliary heads is not set for a network without such heads.

    Args:
        module: What is trained.
        overrides: The command line.

    Raises:
        RequestError: It is.
    """
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    weight = getattr(getattr(module, "loss", None), "auxiliary_weight", 0)
    heads = getattr(getattr(module, "network", None), "auxiliary_channels", ())
    if "loss.auxiliary_weight" in given and weight > 0 and not heads:
        raise RequestError(
            f"loss.auxiliary_weight={weight} has no effect, because this network has no auxiliary heads.",
            key="loss.auxiliary_weight",
            fix="Leave loss.auxiliary_weight out.",
        )


def check_metric(metric: object, module: Task, *, validates: bool = True, tests: bool) -> None:
    """Check the name of the metric that a search optimises, as far as names are known before the training.

    Args:
        metric: `optimized_metric`; None is the module's monitor.
        module: What is trained.
        validates: Whether the run has a validation.
        tests: Whether the best checkpoint is tested.

    Raises:
        RequestError: The evaluation gives no such metric.
    """
    known = [*module.metric_names("val"), *(module.metric_names("test") if tests else ())]
    text = module.monitor if metric is None and searches() else str(metric)
    if text.startswith("val/") and not validates:
        raise RequestError(
            f"optimized_metric={text} is of the validation, and val is trained on (data.train_splits).",
            key="optimized_metric",
            fix="Validate on a drive with data.held_out=NAME, or optimise another metric.",
        )
    if metric is None or text in known or not text.startswith(("val/", "test/")):
        return
    if text in module.metric_names("test"):
        raise RequestError(
            f"optimized_metric={text}, but nothing is tested.",
            key="optimized_metric",
            fix=f"Set data.evaluate_test=true, or optimized_metric={module.monitor}.",
        )
    near = difflib.get_close_matches(text, known, n=1)
    raise RequestError(
        f"optimized_metric={text} is not among the metrics of this run.",
        key="optimized_metric",
        fix=f"Set optimized_metric={near[0] if near else module.monitor}.",
    )


def check_classes(
    trained: Sequence[str], data: TrainingData, source: str, setting: str, fix: str, *, key: str = "data"
) -> None:
    """Check that data has the classes that a network was trained to predict, in the same order.

    Args:
        trained: Their names.
        data: The data.
        source: What the network comes from, as the user named it.
        setting: The setting that did.
        fix: What to do where they are others.
        key: The setting that the error is about.

    Raises:
        RequestError: They are others.
    """
    names = data.classes.names
    if tuple(trained) == tuple(names):
        return
    pairs = enumerate(zip_longest(trained, names, fillvalue="none"))
    place, (theirs, own) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
    raise RequestError(
        f"{setting}={source} predicts {len(trained)} classes, but data={data.dataset} has the {len(names)} of "
        f"{data.classes.name}: class {place} is {theirs} there and {own} here.",
        key=key,
        fix=fix,
    )


def check_batches(plain: Mapping[str, Any], frames: int | None = None) -> None:
    """Check the sizes of the batches of one forward pass, once the data module has taken those of the global batch.

    A single frame has no batch statistics at the 1x1 pooled map, and images are mixed in pairs.

    Args:
        plain: The training's settings.
        frames: How many there are to train on; None where that is not known yet.

    Raises:
        RequestError: Names the setting and the fix.
    """
    if "batch_size" not in plain["data"]:  # an external module's, which is known once it is set up
        return
    batch, devices = plain["data"]["batch_size"], plain["trainer"]["devices"]
    parts = devices * plain["trainer"]["accumulate_grad_batches"]
    smallest = batch // parts
    if smallest and frames is not None and frames < batch:
        own = frames // devices
        smallest = own % smallest or min(smallest, own)
    if smallest == 1:
        raise RequestError(
            f"data.batch_size={batch} over {parts} device(s) x accumulation step(s) ends in a batch of one frame, "
            "which has no batch statistics at the 1x1 pooled map.",
            key="data.batch_size",
            fix=f"Set data.batch_size={2 * parts} or more, and train on at least that many frames.",
        )
    if (plain["augment"].get("mixup") or plain["augment"].get("cutmix")) and batch % (2 * parts):
        raise RequestError(
            f"data.batch_size={batch}: augment.mixup and augment.cutmix mix pairs of images.",
            key="data.batch_size",
            fix=f"Set data.batch_size to a multiple of {2 * parts}.",
        )


def _check_multirun(devices: int) -> None:
    """Each process of a distributed run starts from the same command line."""
    if devices > 1 and jobs_share_a_process():
        raise RequestError(
            f"-m with trainer.devices={devices}: each process of a distributed run would start the whole multirun "
            "again.",
            key="trainer.devices",
            fix="Add hydra/launcher=submitit_slurm or submitit_local (pip install hydra-submitit-launcher), or run the "
            "jobs one by one.",
        )


def _check_step(plain: Mapping[str, Any]) -> None:
    """Lightning clips no gradients that a fused kernel would unscale; what BatchNorm gave is known to torch's alone."""
    trainer = plain["trainer"]
    for name in PROGRAMS:
        if trainer.get(name) is True and trainer.get("recompute") is True:
            raise RequestError(
                f"trainer.{name}=true and trainer.recompute=true do not go together: both change what a step keeps.",
                key=f"trainer.{name}",
                fix="Leave trainer.recompute out.",
            )
    precision = choose_precision(trainer["precision"], trainer["accelerator"])
    if plain["optimizer"].get("fused") is True and trainer["gradient_clip_val"] and precision.endswith("mixed"):
        raise RequestError(
            f"optimizer.fused=true and trainer.gradient_clip_val={trainer['gradient_clip_val']} do not go together at "
            f"trainer.precision={precision}.",
            key="optimizer.fused",
            fix="Leave optimizer.fused out.",
        )


def check_device(plain: Mapping[str, Any]) -> None:
    """Frames lie on a GPU that computes."""
    accelerator = plain["trainer"]["accelerator"]
    if plain["data"].get("device") == "gpu" and accelerator not in ("gpu", "cuda"):
        raise RequestError(
            f"data.device=gpu, but trainer.accelerator={accelerator} computes.",
            key="data.device",
            fix="Set data.device=auto, which takes a GPU where there is one.",
        )


def _check_task(plain: Mapping[str, Any]) -> None:
    """Segmentation and the pre-training on images each have settings that the other has not."""
    classification = plain["data"]["dataset"] == NAME
    check_loss(plain["loss"], images=classification)
    weights = plain["loss"].get("class_weights")
    if plain["data"]["dataset"] == EXTERNAL and isinstance(weights, str):
        raise RequestError(
            f"loss.class_weights={weights} counts the pixels of our own data sets, not those of data.module.",
            key="loss.class_weights",
            fix="Give one number for each class.",
        )
    if not classification:
        check_number("resolution.scale", plain["resolution"]["scale"], above=0, maximum=4)
        return
    if plain["model"]["name"] != FAST_SCNN:
        raise RequestError(
            f"data=imagenet pre-trains {FAST_SCNN}, and model={plain['model']['name']} is not it.",
            key="model",
            fix="Leave model out.",
        )
    for setting, value, default in (
        ("skip", plain["model"].get("skip", "keep"), "keep"),
        ("resolution", plain["resolution"]["name"], "full"),
        ("pretrain", plain["pretrain"]["name"], "none"),
    ):
        if value != default:
            fix = " and set data.crop_size=[H,W]" if setting == "resolution" else ""
            raise RequestError(
                f"{setting}={value} is for segmentation, not for data=imagenet.",
                key=setting,
                fix=f"Leave {setting} out{fix}.",
            )
    for name in ("mixup", "cutmix"):
        check_number(f"augment.{name}", plain["augment"].get(name, 0), minimum=0)
