"""What half precision costs a trained network on a GPU: mIoU of the shipped network of the drawn streets, by precision.

    python benchmarks/gpu_miou.py [--frames 80] [--output FILE] [--dry-run]

The test frames of data=streets are drawn first, then labelled by `Segmenter` as a user would call it. The reference is
torch in float32 without TF32. Writes results/gpu_miou.json. With --dry-run the script tries itself on the CPU.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from cityscapesscripts.helpers.labels import labels as cityscapes
from machine import measured

from fastscnn import Segmenter
from fastscnn.streets.writer import StreetsSpec, write_streets
from fastscnn.training.metrics import ConfusionMatrix, score
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_json
from fastscnn.utils.images import read_rgb

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_miou.json"
REFERENCE = "torch float32"
ON_GPU = {
    REFERENCE: {"backend": "torch", "precision": "float32"},
    "triton float16": {"backend": "triton", "precision": "float16"},
    "triton bfloat16": {"backend": "triton", "precision": "bfloat16"},
    "triton float32": {"backend": "triton", "precision": "float32"},
}
ON_CPU = {REFERENCE: {"backend": "torch", "precision": "float32"}, "torch again": {"backend": "torch"}}
IGNORED = 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with what runs there")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.output == RESULTS:
        parser.error("--dry-run measures nothing that belongs into results/: name another file with --output")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder:
        frames = drawn(Path(folder), arguments.frames)
    found = {}
    labelled: dict[str, list[np.ndarray]] = {}
    for name, settings in (ON_CPU if arguments.dry_run else ON_GPU).items():
        try:
            segmenter = Segmenter.from_pretrained("streets", device="cpu" if arguments.dry_run else "cuda", **settings)
            labelled[name] = [np.asarray(segmenter(image)) for image, _ in frames]
        except RequestError as error:
            print(name, error, flush=True)
            continue
        confusion = ConfusionMatrix(segmenter.classes)
        for predicted, (_, truth) in zip(labelled[name], frames, strict=True):
            confusion.update(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None])
        differ = sum(int((a != b).sum()) for a, b in zip(labelled[name], labelled[REFERENCE], strict=True))
        found[name] = {"miou": 100 * score(confusion.compute(), segmenter.classes).miou, "pixels_that_differ": differ}
        print(name, found[name], flush=True)
    result: dict[str, Any] = {
        "what": "mIoU of the shipped network on the drawn test frames, percent, and labels other than the reference's",
        "frames": len(frames),
        "size": list(frames[0][1].shape),
        "pixels": sum(truth.size for _, truth in frames),
        "reference": REFERENCE,
        "precisions": found,
        "largest_difference": max(abs(row["miou"] - found[REFERENCE]["miou"]) for row in found.values()),
        **measured(),
    }
    arguments.output.parent.mkdir(exist_ok=True)
    write_json(arguments.output, result)


def drawn(folder: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images, uint8 [H, W, 3], with their train ids, uint8 [H, W]."""
    write_streets(folder, StreetsSpec(train=0, val=0, test=count, train_extra=0))
    table = np.full(256, IGNORED, np.uint8)
    for label in cityscapes:
        if 0 <= label.trainId < IGNORED:
            table[label.id] = label.trainId
    pairs = []
    for file in sorted(folder.glob("leftImg8bit/test/*/*.png")):
        truth = folder / "gtFine" / "test" / file.parent.name / file.name.replace("leftImg8bit", "gtFine_labelIds")
        label_ids = cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)
        assert label_ids is not None
        pairs.append((read_rgb(file, upright=True), table[label_ids]))
    return pairs


if __name__ == "__main__":
    main()
