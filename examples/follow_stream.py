"""Follow a camera or a video, and print what is ahead: python follow_stream.py 0   (or a file, or rtsp://…)"""

import sys
import time

import cv2
import numpy as np

from fastscnn import Segmenter

source = sys.argv[1] if len(sys.argv) > 1 else "0"
segmenter = Segmenter.from_pretrained("camvid", backend="auto")
stream = cv2.VideoCapture(int(source) if source.isdigit() else source)
if not stream.isOpened():
    sys.exit(f"{source} cannot be opened: name a camera by its number, or a file or address of a video.")
frames, begun = 0, time.perf_counter()
while True:
    more, frame = stream.read()
    if not more:
        break
    labels = segmenter(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    frames += 1
    ahead = labels[labels.shape[0] // 2 :, labels.shape[1] // 3 : -(labels.shape[1] // 3)]
    most = segmenter.classes.names[np.bincount(ahead.ravel()).argmax()]
    print(f"frame {frames}: mostly {most}, {frames / (time.perf_counter() - begun):.1f} frames a second", flush=True)
