"""A module trained by the real Trainer, its global batch in one part or in several; used by test_global_batch.py."""

import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from own_blocks import shallow
from torch import nn
from torch.utils.data import DataLoader

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.data.datasets.images import ImageClasses
from fastscnn.training.classification import Classification
from fastscnn.training.segmentation import Segmentation

LABELLED = (0.0, 0.9, 0.0, 0.5, 0.02, 0.1, 0.6, 0.02)
"""The share of the pixels of each frame of a global batch that is labelled."""
SIZE = (32, 64)
MODEL = {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.0}
OPTIMIZER = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0}
SCHEDULER = {"_target_": "fastscnn.training.schedules.poly"}
WEIGHTS = [0.5, 1.0, 2.0, 0.0, 1.5, 1.0, 3.0, 0.25, 1.0, 1.0, 0.75]
LOSSES = {
    "plain": {},
    "weights and smoothing": {"class_weights": WEIGHTS, "label_smoothing": 0.1},
    "torch's own": {"class_weights": WEIGHTS, "fused": False},
    "hard pixels": {"hard_pixels": {"probability": 0.09, "keep": 0.1}},
    "weighed hard pixels": {"class_weights": WEIGHTS, "hard_pixels": {"probability": 0.09, "keep": 0.1}},
    "regions": {"lovasz_weight": 1.0, "dice_weight": 0.5},
}


def frames(step):
    """Images and labels of one optimizer step."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (len(LABELLED), 3, *SIZE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CAMVID.num_classes, (len(LABELLED), *SIZE), generator=generator, dtype=torch.uint8)
    for frame, labelled in enumerate(LABELLED):
        labels[frame][torch.rand(SIZE, generator=generator) >= labelled] = 255
    return images, labels


def loader(batches):
    """Of batches as they are: Lightning takes a list for many loaders."""
    return DataLoader(batches, batch_size=None)


class Frames(pl.LightningDataModule):
    """Two global batches in the order of our sampler: a device takes every so manieth frame."""

    def __init__(self, steps=2, unlabelled=False):
        super().__init__()
        self.steps, self.unlabelled = steps, unlabelled

    def train_dataloader(self):
        devices, parts = self.trainer.world_size, self.trainer.accumulate_grad_batches
        batches = []
        for step in range(self.steps):
            images, labels = (tensor[self.trainer.global_rank :: devices] for tensor in frames(step))
            if self.unlabelled:
                labels = torch.full_like(labels, 255)
            for image, label in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                batches.append({"image": image, "label": label, "name": ["frame"] * len(image)})
        return loader(batches)


class Images(pl.LightningDataModule):
    """Six images of one class each, four in a batch: the second part of the global batch is half as large."""

    def train_dataloader(self):
        images, _ = frames(0)
        targets = torch.tensor([0, 2, 1, 1, 2, 2])
        size = 6 if self.trainer.accumulate_grad_batches == 1 else 4
        split = zip(images[:6].split(size), targets.split(size), strict=True)
        return loader([{"image": image, "target": target, "name": ["image"] * len(image)} for image, target in split])


class Recorded(pl.Callback):
    """Freezes BatchNorm, and records the momentum after each step and what is logged."""

    def __init__(self):
        self.momenta, self.losses = [], []

    def on_train_batch_start(self, trainer, pl_module, *args):
        for part in pl_module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step > len(self.momenta):
            state = trainer.optimizers[0].state
            parameters = dict(pl_module.named_parameters())
            self.momenta.append({name: state[p]["momentum_buffer"].clone() for name, p in parameters.items()})
            self.losses.append(float(trainer.callback_metrics["train/loss"]))


def build(loss=None):
    """The same weights each time, with heads that tell the pixels apart."""
    torch.manual_seed(0)
    config = {"model": MODEL, "optimizer": OPTIMIZER, "scheduler": SCHEDULER, "trainer": {}}
    with shallow():
        module = Segmentation(config | {"loss": {"auxiliary_weight": 0.4, **(loss or {})}}, CAMVID)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return module


def build_classifier():
    torch.manual_seed(0)
    config = {"seed": 0, "data": {"dataset": "imagenet"}, "model": MODEL, "optimizer": OPTIMIZER}
    config |= {"scheduler": SCHEDULER}
    config |= {"loss": {"name": "classification", "label_smoothing": 0.0}, "augment": {"name": "none"}}
    return Classification(config, ImageClasses("ImageNet", ("a", "b", "c")))


def train(folder, module=None, data=None, **settings):
    """Train for an epoch; returns what `Recorded` has."""
    recorded = Recorded()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[recorded],
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **quiet,
        **settings,
    )
    trainer.fit(build() if module is None else module, datamodule=data or Frames())
    return recorded


def as_one_of_two(rank, folder):
    """A process of two: every loss, over two devices and over two devices with two accumulation steps."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    settings = {"devices": 2, "strategy": "ddp"}
    found = {}
    for name, loss in LOSSES.items():
        recorded = train(folder, build(loss), **settings)
        found[name] = recorded.momenta, recorded.losses
    recorded = train(folder, build(), accumulate_grad_batches=2, **settings)
    found["accumulated"] = recorded.momenta, recorded.losses
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def as_two(folder):
    """Both processes, which share the imports; returns how the other one ended."""
    other = os.fork()
    as_one_of_two(int(other != 0), folder)
    return os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0


if __name__ == "__main__":
    sys.exit(as_two(sys.argv[1]))
