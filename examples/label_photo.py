"""Label a photograph and draw the classes over it: python label_photo.py photo.jpg labelled.png"""

import sys

import numpy as np
from PIL import Image

from fastscnn import Segmenter

source, target = sys.argv[1:3]
segmenter = Segmenter.from_pretrained("camvid")  # or Segmenter.from_checkpoint("best.ckpt")
image = np.asarray(Image.open(source).convert("RGB"))
labels = segmenter(image)  # uint8 [H, W]

for label, pixels in zip(*np.unique(labels, return_counts=True), strict=True):
    print(f"{segmenter.classes.names[label]:12} {100 * pixels / labels.size:5.1f} %")
colors = segmenter.classes.colorize(labels)
Image.fromarray((0.4 * image + 0.6 * colors).astype(np.uint8)).save(target)
