"""Draw the README's animation: a drive of CamVid that the shipped network never saw, and its labels beside it.

python benchmarks/drive_animation.py CAMVID_DIR [OUTPUT]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fastscnn import Segmenter
from fastscnn.predict.draw import overlay

WIDTH, HEIGHT, FRAMES = 360, 270, 24


def main(camvid: Path, output: Path) -> None:
    segmenter = Segmenter.from_pretrained("camvid")
    pictures = []
    for path in sorted((camvid / "test").glob("Seq05VD_*.jpg"))[:FRAMES]:
        image = np.asarray(Image.open(path).convert("RGB"))
        labelled = overlay(image, segmenter(image), segmenter.classes, 0.6)
        sides = [Image.fromarray(side).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for side in (image, labelled)]
        picture = Image.new("RGB", (2 * WIDTH, HEIGHT))
        picture.paste(sides[0], (0, 0))
        picture.paste(sides[1], (WIDTH, 0))
        pictures.append(picture)
    pictures[0].save(output, save_all=True, append_images=pictures[1:], duration=350, loop=0, quality=55, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "results/drive.webp"))
