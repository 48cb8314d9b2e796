"""What several tests need: commands, tiny data sets on disk, small networks, records of runs.

Nothing of the package is imported before a function asks for it: `golden/freeze.py` writes data sets with this module
for other commits too.
"""

import contextlib
import errno
import functools
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from cityscapesscripts.helpers.labels import labels as official_labels

REPO = Path(__file__).parents[1]
SOURCES = REPO / "src"
CONF = REPO / "conf"
FAST = ["trainer.accelerator=cpu", "data.num_workers=0"]
"""Settings of a `train.py` that is over soon."""
MODEL = {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.1}
OPTIMIZER = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 4e-5, "fused": "auto"}
SCHEDULER = {"_target_": "fastscnn.training.schedules.poly", "power": 0.9, "warmup_steps": 0}
SEGMENTATION = {
    "model": MODEL,
    "loss": {"auxiliary_weight": 0.4, "label_smoothing": 0.0},
    "optimizer": OPTIMIZER,
    "scheduler": SCHEDULER,
}
"""The config of a `Segmentation` module."""
CLASSIFICATION = {
    "seed": 0,
    "data": {"dataset": "imagenet"},
    "model": MODEL,
    "loss": {"name": "classification", "label_smoothing": 0.0},
    "augment": {"name": "none"},
    "optimizer": OPTIMIZER | {"lr": 0.05},
    "scheduler": SCHEDULER,
}
"""The config of a `Classification` module."""
RUN_CHOICES = {"data": "fine", "model": "fast_scnn", "skip": "keep", "activation": "relu", "pretrain": "none"}
RUN_CHOICES |= {"resolution": "full", "augment": "paper"}
RUN_KEYS = ["id", "name", "status", "error", "command", "choices", "seed", "started", "finished", "versions", "git"]
RUN_KEYS += ["device", "metrics", "checkpoints", "wandb_id"]
COMPARE_SETTINGS = {"metric": "val/miou", "group_by": None, "baseline": None, "filter": {}, "gallery": 6}
BENCHMARK_SETTINGS = {
    "checkpoint": None,
    "trust": None,
    "models": ["fast_scnn"],
    "onnx": None,
    "int8": None,
    "backends": ["torch"],
    "compile_models": [],
    "write": ["labels", "probabilities", "files"],
    "sizes": [[64, 96]],
    "threads": [1],
    "frames": 4,
    "warm_up": 1,
    "rounds": 2,
    "seconds": 5,
    "keep_memory": False,
    "image": None,
}
HOSTILE = '</script><script>alert("1")</script>\'\u2028&'
FILE_IDS = np.array(sorted(label.id for label in official_labels if label.id >= 0), np.uint8)


@contextlib.contextmanager
def refused(key, *facts, fix=""):
    """Expect a `RequestError` about a key that names these facts (files, values), and whose fix has this text."""
    from fastscnn.utils.errors import RequestError

    with pytest.raises(RequestError) as caught:
        yield caught
    assert caught.value.key == key
    assert caught.value.fix
    assert fix in caught.value.fix
    for fact in facts:
        assert str(fact) in str(caught.value)


def camvid_frames():
    """Batches of two frames, 64x64, with labels of CamVid; four frames of noise in all."""
    import torch
    from torch.utils.data import DataLoader

    random = torch.Generator().manual_seed(0)
    frame = {"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=random)}
    frame |= {"label": torch.randint(0, 11, (64, 64), dtype=torch.uint8, generator=random)}
    return DataLoader([frame | {"name": f"frame{number}", "source": "camvid"} for number in range(4)], batch_size=2)


@functools.cache
def home():
    """A home without anything in it, for the commands of this process."""
    return tempfile.mkdtemp(prefix="fastscnn-tests-")


def command(script, *arguments, cwd, **environment):
    """The command as a user would type it, and the environment that it runs in: no key, so W&B stays offline."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "CITYSCAPES_"))}
    variables |= {"OMP_NUM_THREADS": "1", "NETRC": os.devnull, "HOME": home(), **environment}
    return {"args": [sys.executable, str(REPO / "src" / script), *arguments], "cwd": cwd, "env": variables}


def block_labels(size: tuple[int, int], seed: int, block: int = 8) -> npt.NDArray[np.uint8]:
    """Random label file of the official table's ids in square blocks; uint8 [H, W]."""
    rows, columns = -(-size[0] // block), -(-size[1] // block)
    ids = np.random.default_rng(seed).choice(FILE_IDS, (rows, columns))
    return np.kron(ids, np.ones((block, block), np.uint8))[: size[0], : size[1]]


def paint(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Picture whose every pixel tells its label: RGB (id * 7, 255 - id * 7, id * 3); uint8 [H, W, 3]."""
    return np.stack([ids * 7, 255 - ids * 7, ids * 3], axis=-1).astype(np.uint8)


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    assert cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def write_cityscapes(
    root: Path,
    size: tuple[int, int] = (64, 128),
    train: int = 3,
    val: int = 2,
    test: int = 0,
    train_extra: int = 0,
    seed: int = 0,
) -> Path:
    """Write frames in the Cityscapes layout, each image `paint`ed from its label; returns the root.

    Every split has two cities, and `test` has no label files.
    """
    counts = {"train": train, "val": val, "test": test, "train_extra": train_extra}
    for place, (split, count) in enumerate(counts.items()):
        label_type = "gtCoarse" if split == "train_extra" else "gtFine"
        for number in range(count):
            city = f"{split.replace('_', '')}{'ab'[number % 2]}"
            name = f"{city}_{number:06d}_000019"
            ids = block_labels(size, seed=1000 * seed + 100 * place + number)
            write_png(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", paint(ids))
            if split != "test":
                write_png(root / label_type / split / city / f"{name}_{label_type}_labelIds.png", ids)
    return root


FOLDER_COLORS = [(70, 130, 180), (60, 179, 60), (128, 64, 128)]
"""Of the masks of `write_folder`."""
FOLDER_CLASSES = """
masks: colors
ignored: [[0, 0, 0]]
classes:
  - {name: sky, color: [70, 130, 180]}
  - {name: tree, color: [60, 179, 60]}
  - {name: road, color: [128, 64, 128]}
"""


def write_folder(root, names, size=(32, 48), seed=0, masks="masks", images="images", ending=".jpg"):
    """Write photographs and colour masks of three classes and a few black pixels, by name; returns the root."""
    for number, name in enumerate(names):
        values = np.random.default_rng([seed, number]).integers(0, 3, (size[0] // 8, size[1] // 8))
        values = np.kron(values, np.ones((8, 8), int))
        mask = np.array(FOLDER_COLORS, np.uint8)[values]
        mask[:2] = 0
        write_image(root / images / f"{name}{ending}", np.clip(mask.astype(int) + 20, 0, 255).astype(np.uint8))
        write_image(root / masks / f"{name}.png", mask)
    return root


def write_class_folders(root, classes=3, images=4, size=(40, 50), seed=0):
    """Write noisy images of one colour a class to `CLASS/NAME.JPEG`; returns the root."""
    rng = np.random.default_rng(seed)
    for number in range(classes):
        folder = root / f"n{number:08d}"
        folder.mkdir(parents=True)
        color = np.random.default_rng([7, number]).integers(0, 256, 3)
        for image in range(images):
            pixels = np.clip(color + rng.normal(0, 25, (*size, 3)), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(folder / f"{folder.name}_{seed}{image}.jpg"), pixels)
            (folder / f"{folder.name}_{seed}{image}.jpg").rename(folder / f"{folder.name}_{seed}{image}.JPEG")
    return root


def write_image(path, image):
    """Write an RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


def random_image(seed=0, size=(40, 56)):
    """A smooth image of random colours; uint8 [H, W, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_panels(path, panels):
    """A picture of panels side by side, each of one colour (BGR)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate([np.full((20, 40, 3), colour, np.uint8) for colour in panels], axis=1))


def files_in(folder):
    """Paths of all files below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Disk:
    """A disk that can be filled: a small file system of its own or, where none can be mounted, one that is played."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted
        self._patches = contextlib.ExitStack()

    def fill(self) -> None:
        """From now on no byte can be written to it that it has not given room for already."""
        if self.mounted:
            with (self.folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
                for size in (2**16, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))
            return

        def full(path: Path, *args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        self._patches.enter_context(mock.patch.object(Path, "write_bytes", full))
        self._patches.enter_context(mock.patch.object(os, "posix_fallocate", full))

    def limit(self) -> None:
        """For a process that is started where no disk could be mounted: no file of it can grow beyond 5 MB."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))

    def close(self) -> None:
        self._patches.close()
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=60)


@contextlib.contextmanager
def full_disk(folder: Path, mebibytes: int = 4):
    """A `Disk` at a folder that is made for it."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    mounted = False
    with contextlib.suppress(OSError):
        mounted = subprocess.run(mount, capture_output=True, timeout=60).returncode == 0
    disk = Disk(folder, mounted)
    try:
        yield disk
    finally:
        disk.close()


def randomize_norms(network):
    """Give a network's BatchNorms statistics and weights as training leaves them; returns it in evaluation mode."""
    import torch
    from torch import nn

    generator = torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 3, generator=generator)
            module.bias.data.normal_(generator=generator)
    return network.eval()


def trained_network(scale=1.0, **settings):
    """A Fast-SCNN for CamVid's classes, as `loader` makes it from a checkpoint."""
    import torch

    from fastscnn.data.datasets.classes import CAMVID
    from fastscnn.inference.loader import Trained
    from fastscnn.models.fast_scnn import FastSCNN

    torch.manual_seed(0)
    network = randomize_norms(FastSCNN(CAMVID.num_classes, **settings)).requires_grad_(False)
    return Trained(network, CAMVID, {"model": MODEL | settings, "resolution": {"scale": scale}})


def shallow_network(**settings):
    """As `trained_network`, with three bottlenecks instead of nine: where the runtime matters, not the network."""
    from own_blocks import shallow

    with shallow():
        return trained_network(**settings)


def write_checkpoint(path, classes=None, seed=0):
    """Write a checkpoint of a Fast-SCNN, for Cityscapes' classes unless others are named."""
    import torch

    from fastscnn.data.datasets.classes import CITYSCAPES
    from fastscnn.models.fast_scnn import FastSCNN
    from fastscnn.runs.checkpoint import META

    classes = classes or CITYSCAPES
    torch.manual_seed(seed)
    network = randomize_norms(FastSCNN(classes.num_classes))
    content = {
        "state_dict": {f"network.{name}": tensor for name, tensor in network.state_dict().items()},
        META: {"config": {"model": MODEL}, "classes": asdict(classes)},
    }
    torch.save(content, path)
    return path


def save_module(module, path):
    """Write the checkpoint of a training's module, as training does."""
    import torch

    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def predict_settings(checkpoint, given, output, **others):
    """The config of predict.py."""
    return {
        "checkpoint": str(checkpoint),
        "input": str(given),
        "output": str(output),
        "write": "auto",
        "label_values": "train_ids",
        "unknown_below": None,
        "opacity": 0.5,
        "backend": "auto",
        "device": "auto",
        "precision": "auto",
        "threads": None,
        "max_pixels": 200_000_000,
        "longest_side": "auto",
        "trust": None,
        "overwrite": False,
        **others,
    }


@contextlib.contextmanager
def job(*overrides, name="train"):
    """The config of `train.py OVERRIDES`, or of another command, as within the job that Hydra runs."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, [*overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        try:
            yield config
        finally:
            HydraConfig.instance().cfg = None


def make_run(folder, *overrides, epochs=2, status="failed"):
    """A run's folder as `train.py OVERRIDES` leaves it after some epochs; None of them: nothing was kept."""
    import torch

    from fastscnn.runs.run import Run

    with job("logger=csv", *overrides, f"paths.run_dir='{folder}'") as config, Run.create(config) as opened:
        opened.record.update(metrics={"best": {}, "last": {"epoch": epochs, "step": 10 * (epochs or 0)}})
    (folder / "checkpoints").mkdir()
    if epochs is not None:
        progress = {"epoch_progress": {"current": {"processed": epochs}}}
        meta = {"config": {}, "classes": {}, "best_scores": None}
        content = {"loops": {"fit_loop": progress}, "global_step": 10 * epochs, "fastscnn": meta, "state_dict": {}}
        torch.save(content, folder / "checkpoints" / "last.ckpt")
    change_run(folder, status=status)
    return folder


def change_run(folder, **changes):
    """Overwrite values of a run's record."""
    data = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(data))


RUN_EXTRAS = {"overrides": {}, "settings": None, "weights": None}


def write_run(root, miou, seed=0, *, status="finished", started=0, test=None, place="cityscapes", rows=(), **choices):
    """Write a finished run's folder as comparing reads it; returns the run's id."""
    overrides, settings, weights = (choices.pop(key, default) for key, default in RUN_EXTRAS.items())
    name = "-".join([choices.get("data", "fine"), *(f"{k}_{v}" for k, v in choices.items() if k != "data")])
    run_id = f"{len(list(root.rglob('run.json'))):08x}"
    folder = root / name / f"2026-01-01_00-00-{started:02d}-{run_id}"
    folder.mkdir(parents=True)
    best = {"val/miou": miou, "epoch": 3} | ({"test/miou": test} if test else {})
    record = {
        "id": run_id,
        "name": name,
        "status": status,
        "error": "ValueError: no" if status == "failed" else None,
        "choices": RUN_CHOICES | choices,
        "overrides": overrides,
        "seed": seed,
        "started": f"2026-01-01T00:00:{started:02d}+00:00",
        "finished": f"2026-01-01T00:30:{started:02d}+00:00",
        "metrics": {"best": best, "last": best} if miou is not None else {"best": {}, "last": {}},
        "dataset": {
            "name": choices.get("data", "fine"),
            "synthetic": place == "streets",
            "frames": {"train": {"imagenet": 1000}},
        },
        "host": "elsewhere",
        "pid": 1,
        **({"settings": settings} if settings else {}),
        **({"pretrain": {"sha256": weights}} if weights else {}),
    }
    (folder / "run.json").write_text(json.dumps(record))
    if rows:
        with (folder / "metrics.csv").open("w") as file:
            file.write("\n".join(["trainer/global_step,train/loss,epoch,val/miou", *rows]) + "\n")
    return run_id


def write_evaluation(
    root, run, miou, *, split="val", skip="keep", resolution="full", checkpoint="/x/best.ckpt", **content
):
    """Write the record of an evaluation of a run."""
    folder = root / f"eval-{len(list(root.rglob('eval.json')))}" / "time"
    folder.mkdir(parents=True)
    content = {
        "checkpoint": checkpoint,
        "run": run,
        "model": {"skip": skip},
        "resolution": resolution,
        "metrics": {f"{split}/miou": miou},
        "finished": f"2026-01-01T00:00:0{len(list(root.rglob('eval.json')))}",
    } | content
    (folder / "eval.json").write_text(json.dumps(content))


def run_view(label="fine · seed 0", values=(10.0, 20.0), **changes):
    """A run as the page of a comparison shows it."""
    from fastscnn.reports.comparison.content import Curve, RunView

    steps = [10 * (place + 1) for place in range(len(values))]
    curve = Curve([place + 1 for place in range(len(values))], steps, values)
    group = label.partition(" · ")[0]
    run = RunView(label, label, group, "finished", {"run": label, "best": f"{max(values, default=0):.2f}"}, curve)
    return replace(run, **changes)


def comparison(*runs, **changes):
    """A comparison of these runs, with one table."""
    from fastscnn.reports.comparison.content import Comparison, Table

    table = Table("Groups", ["group"], [[group] for group in dict.fromkeys(run.group for run in runs)])
    made = Comparison("Title", "Subtitle", "val/miou", ["run", "best"], frozenset({"best"}), runs, [table])
    return replace(made, **changes)


def evaluation_report(**changes):
    """Two classes, one of them with a name that is markup; a frame whose picture is grey."""
    from fastscnn.runs.evaluation_report import EvaluationReport, ReportedFrame

    names = ("road", HOSTILE)
    picture = np.full((8, 12, 3), 99, np.uint8)
    scores = {"pixels": 10, "miou": 0.25, "accuracy": 0.5, "iou": dict.fromkeys(names, 0.25)}
    table = {name: [1, 0] for name in names}
    content = {
        "checkpoint": f"/runs/{HOSTILE}/best.ckpt",
        "split": "val",
        "frames": 3,
        "pixels": 20,
        "resolution": "full",
        "finished": "2026-01-01T00:00:00+00:00",
        "metrics": {"val/miou": 0.5, "val/accuracy": 0.75, "val/iou/road": 0.5, f"val/iou/{HOSTILE}": float("nan")},
        "report": {
            "bootstrap": {"frames": 3, "draws": 1000, "seed": 0, "share": 0.95},
            "intervals": {"val/miou": (0.4, 0.6), "val/accuracy": None, "val/iou/road": (0.41, 0.62)},
            "boundary": {"pixels": 5, "near": scores, "away": scores},
            "objects": {
                "sides": [8],
                "found_from": 0.5,
                "objects": table,
                "found": table,
                "pixels": table,
                "right": table,
            },
            "worst": [],
        },
    }
    frame = ReportedFrame(f"city/{HOSTILE}", 0.5, [("road", HOSTILE, 0.9)], picture, picture, picture, picture)
    colors = dict(zip(names, ((1, 2, 3), (4, 5, 6)), strict=True))
    report = EvaluationReport(f"{HOSTILE} val", content, colors, [[12, 4], [1, 3]], [frame])
    return replace(report, **changes)


def wandb_records(folder, kind):
    """Records of one kind in the folder's only `.wandb` file, a LevelDB log after a header of seven bytes."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # W&B's service writes the last of the file after the run's end
    (path,) = folder.glob("wandb/*run-*/*.wandb")
    data, at, chunk, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        size, place = struct.unpack("<HB", data[at + 4 : at + 7])
        if left < 7 or place == 0:
            at += left
            continue
        chunk += data[at + 7 : at + 7 + size]
        at += 7 + size
        if place in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record.FromString(chunk)
            chunk = b""
            if record.WhichOneof("record_type") == kind:
                found.append(getattr(record, kind))
    return found


def wandb_config_of(folder):
    """The config that W&B kept of a run."""
    return {item.key: json.loads(item.value_json) for item in wandb_records(folder, "run")[0].config.update}


def track(folder, run_id="abcd1234", **changes):
    """A W&B run that is tracked in a folder."""
    from fastscnn.runs.tracking import tracked, wandb_config

    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "name": f"fine-{run_id}",
        "group": "fine",
        "tags": ["data=fine", "skip=keep"],
        "config": wandb_config({"data": {"lr": 0.1}, "seed": 3}, {"data": "fine", "seed": 3}),
        "project": "tests",
    }
    return tracked(folder, run_id=run_id, **settings | changes)


def sweep(name):
    """The content of a sweep file."""
    return yaml.safe_load((REPO / "sweeps" / f"{name}.yaml").read_text())


def agent_start(config, point, monkeypatch, folder, run_id="of-the-agent"):
    """The command and environment with which the installed W&B's own agent would start a point of a sweep."""
    import wandb.wandb_agent

    started = []
    monkeypatch.setenv("WANDB_DIR", str(folder))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    for variable in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them: put them back after the test
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(
        wandb.wandb_agent, "AgentProcess", lambda **settings: started.append(settings) or SimpleNamespace()
    )
    agent = wandb.wandb_agent.Agent(api=None, queue=None, sweep_id="sweep1")
    agent._sweep_command = list(config["command"])
    arguments = {key: {"value": value} for key, value in point.items()}
    agent._command_run({"run_id": run_id, "program": config["program"], "args": arguments})
    return started[0]["command"], started[0]["env"]
