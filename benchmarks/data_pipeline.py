"""Training frames a second and core: PNG files and albumentations as usual, beside crop first and the decoded store.

    python benchmarks/data_pipeline.py [--rounds 6] [--workers 1 2 4 8 16] [--frames DIR] [--output FILE]

Frames are drawn streets of 1024x2048 in the layout of Cityscapes, about as heavy as its PNG files (made first, in DIR).
Variants, from a frame to a training crop:

    png, resize first    decode, albumentations' resize, pad, crop, flip, colour and normalisation to float
    png, crop first      decode, and the project's augmentation: the window of the crop alone, uint8
    store, crop first    the same window from the decoded store: what training does

First each alone on one thread, in turn, a few frames at a time. Then each through its DataLoader, those of the project
as training builds them, for each number of workers up to the cores there are, an epoch of each in turn; the store by
threads, as training does, and by processes too. All lie in the page cache. Writes results/data_pipeline.json and .png.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from harness import RESULTS, interleaved, medians, save, timed
from torch.utils.data import DataLoader, Dataset

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.files import write_png

FRAME = (1024, 2048)
CROPS = ((512, 1024), (1024, 1024), (1024, 2048))
USUAL, VARIANTS = "png, resize first", ("png, resize first", "png, crop first", "store, crop first")
PROCESSES = "store, by processes"
LOADED = (*VARIANTS[:2], PROCESSES, VARIANTS[2])
"""What goes through a loader."""
BATCH = 4
BARS = {(1024, 1024): 10, (1024, 2048): 6}
LOADER_BAR = 6


def write_frames(root, size=FRAME, count=40):
    """Draw frames in the layout of Cityscapes, where they are not yet; returns the root."""
    root = Path(root)
    jobs = [("train", number) for number in range(count)] + [("val", number) for number in range(2)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_write_frame, itertools.repeat(root), itertools.repeat(size), jobs))
    return root


def _write_frame(root, size, job):
    cv2.setNumThreads(0)
    split, number = job
    name = f"town_{number:06d}_000019"
    image = root / "leftImg8bit" / split / "town" / f"{name}_leftImg8bit.png"
    label = root / "gtFine" / split / "town" / f"{name}_gtFine_labelIds.png"
    if not label.exists():
        scene = draw_street([split == "val", number, 0], size)
        write_png(image, scene.image)
        write_png(label, scene.label_ids)


class Usual(Dataset):
    """What careful users of albumentations write: decode, resize all of it, crop, normalise to float."""

    def __init__(self, frames, crop):
        self.frames = frames
        self.train_ids = CITYSCAPES.train_ids.astype(np.uint8)
        self.transform = A.Compose(
            [
                A.RandomScale((-0.5, 1.0), interpolation=cv2.INTER_LINEAR, p=1.0),
                A.PadIfNeeded(*crop, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=255),
                A.RandomCrop(*crop),
                A.HorizontalFlip(p=0.5),
                A.RGBShift(20, 20, 20, p=1.0),
                A.RandomBrightnessContrast(0.2, 0.0, p=1.0),
                A.Normalize(MEAN, STD),
                ToTensorV2(),
            ]
        )

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        frame = self.frames[index % len(self.frames)]
        image = cv2.cvtColor(cv2.imread(str(frame.image)), cv2.COLOR_BGR2RGB)
        label = cv2.LUT(cv2.imread(str(frame.label), cv2.IMREAD_UNCHANGED), self.train_ids)
        made = self.transform(image=image, mask=label)
        return {"image": made["image"], "label": made["mask"]}


def build(variant, root, store, crop, workers=0):
    """The data set of a variant, and its loader."""
    data = {"dataset": "fine", "root": str(root), "batch_size": BATCH, "num_workers": workers, "crop_size": list(crop)}
    augment = {"name": "paper", "scale": [0.5, 2.0]}
    data |= {"store": str(store) if variant.startswith("store") else "off"}
    module = build_data(data | {"loader": "processes" if variant == PROCESSES else "auto"}, augment)
    module.prepare_data()
    if variant == USUAL:
        dataset = Usual(module.frames("train"), crop)
        return dataset, DataLoader(
            dataset,
            batch_size=BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=lambda _: cv2.setNumThreads(0),
        )
    loader = module.train_dataloader()
    return loader.dataset, loader


def alone(root, store, crop, rounds, frames):
    """Seconds of a frame, on this thread."""
    datasets = {variant: build(variant, root, store, crop)[0] for variant in VARIANTS}
    seconds = {variant: [] for variant in VARIANTS}
    numbers = itertools.count()
    for dataset in datasets.values():
        dataset[0]
    for _, variant in interleaved(VARIANTS, rounds):
        dataset = datasets[variant]
        for number in itertools.islice(numbers, frames):
            index = number % len(dataset)
            # The project's own data set makes batches: one of one frame.
            one = dataset.__getitem__ if variant == USUAL else dataset.__getitems__
            key = index if variant == USUAL else [(number, index)]
            seconds[variant] += timed(lambda one=one, key=key: one(key))
    return seconds


def through_loaders(root, store, crop, workers, rounds):
    """Frames a second of each round: an epoch of each loader in turn, after one that starts its workers."""
    loaders = {variant: build(variant, root, store, crop, workers)[1] for variant in LOADED}
    rates = {variant: [] for variant in LOADED}
    for number, variant in interleaved(LOADED, rounds + 1):
        loader = loaders[variant]
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(number)
        started = time.perf_counter()
        frames = sum(len(batch["image"]) for batch in loader)
        if number:
            rates[variant].append(frames / (time.perf_counter() - started))
    return rates


def summary(seconds):
    typical = medians(seconds)
    return {
        variant: {
            "frames_a_second": 1 / median,
            "ms_median": median * 1e3,
            "ms_min_max": [min(seconds[variant]) * 1e3, max(seconds[variant]) * 1e3],
            "times_usual": typical[USUAL] / median,
        }
        for variant, median in typical.items()
    }


def summary_of_rates(rates):
    typical = medians(rates)
    return {
        variant: {
            "frames_a_second": median,
            "min_max": [min(rates[variant]), max(rates[variant])],
            "times_usual": median / typical[USUAL],
        }
        for variant, median in typical.items()
    }


def files(root):
    """Weight of the files, and what decoding one takes on this thread."""
    images = sorted((root / "leftImg8bit" / "train").rglob("*.png"))
    seconds = [second for path in images[:10] for second in timed(lambda path=path: cv2.imread(str(path)))]
    weights = [path.stat().st_size for path in images]
    return {
        "frames": len(images),
        "mean_mb": statistics.fmean(weights) / 1e6,
        "decode_ms": statistics.median(seconds) * 1e3,
    }


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    loaders = result["loader"]
    workers = sorted({int(count) for of_crop in loaders.values() for count in of_crop})
    figure, axes = plt.subplots(1, len(loaders), figsize=(3.6 * len(loaders), 3.4), sharey=True)
    for axis, (crop, of_crop) in zip(np.atleast_1d(axes), loaders.items(), strict=True):
        for number, variant in enumerate(LOADED):
            rates = [of_crop[str(count)][variant]["frames_a_second"] for count in workers]
            places = np.arange(len(workers)) + 0.21 * (number - 1.5)
            color = ("#9aa5b1", "#5b8db8", "#e3a48f", "#d1603d")[number]
            bars = axis.bar(places, rates, 0.2, label=variant, color=color)
            axis.bar_label(bars, [f"{rate:.0f}" for rate in rates], fontsize=8, padding=1)
        axis.set_xticks(range(len(workers)), [str(count) for count in workers])
        axis.set(title=f"crops of {crop}", xlabel="workers")
        axis.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_ylabel("frames a second")
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=4, loc="upper center")
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, dpi=130)


def main(arguments):
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    cores = len(os.sched_getaffinity(0))
    workers = [count for count in arguments.workers if count <= cores] or [1]
    with tempfile.TemporaryDirectory() as work:
        count = max(arguments.count, 4 * BATCH * max(workers))
        root = write_frames(arguments.frames or Path(work) / "frames", arguments.size, count)
        store = Path(work) / "store"
        result = {
            "what": "training frames from files to crops; the store and the files lie in the page cache",
            "size_of_the_files": list(arguments.size),
            "files": files(root),
            "alone": {},
            "loader": {},
            "batch_of_the_loader": BATCH,
        }
        for crop in CROPS:
            name = f"{crop[0]}x{crop[1]}"
            result["alone"][name] = summary(alone(root, store, crop, arguments.rounds, arguments.turn))
            print(name, {variant: round(found["times_usual"], 1) for variant, found in result["alone"][name].items()})
            print("  bar:", BARS.get(crop, "none"))
        for crop in CROPS:
            name = f"{crop[0]}x{crop[1]}"
            result["loader"][name] = {
                str(count): summary_of_rates(through_loaders(root, store, crop, count, arguments.epochs))
                for count in workers
            }
            for count, found in result["loader"][name].items():
                printed = {
                    variant: (round(one["frames_a_second"], 1), round(one["times_usual"], 1))
                    for variant, one in found.items()
                }
                print(name, f"{count} workers", printed, "bar:", LOADER_BAR)
    save(arguments.output, result)
    plot(result, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=int, default=4, help="frames of each variant in a round")
    parser.add_argument("--epochs", type=int, default=4, help="of each loader")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--count", type=int, default=40, help="frames to draw")
    parser.add_argument("--size", type=int, nargs=2, default=FRAME, help="their height and width")
    parser.add_argument("--frames", type=Path, help="where they lie, or shall")
    parser.add_argument("--output", type=Path, default=RESULTS / "data_pipeline.json")
    main(parser.parse_args())
