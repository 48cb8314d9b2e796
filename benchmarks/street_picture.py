"""Draw the README's picture: held-out synthetic streets beside what a trained network sees in them.

    python benchmarks/street_picture.py RUN_DIR [FRAME ...]

Writes results/street.png: input and prediction of each frame (numbers in the test split), one below the other.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from harness import RESULTS
from omegaconf import OmegaConf

from fastscnn.data.datamodules.build import build_data
from fastscnn.training.pictures import side_by_side
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.files import write_png


def main(run: Path, numbers: list[int]) -> None:
    config = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "config.yaml"), resolve=True)
    data = build_data(config["data"])
    data.prepare_data()
    module = Segmentation.from_checkpoint(run / "checkpoints" / "best.ckpt").eval()
    dataset = data.whole_frames("test").dataset
    rows = []
    for number in numbers:
        image = dataset[number]["image"]
        with torch.inference_mode():
            prediction = module.predict_labels(image[None])[0].to(torch.uint8).numpy()
        rows.append(side_by_side(image.permute(1, 2, 0).numpy(), None, prediction, module.classes))
    write_png(RESULTS / "street.png", np.concatenate(rows), compression=9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]] or [0, 1])
