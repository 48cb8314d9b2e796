"""Memory of a prediction over 10,000 frames: python benchmarks/predict_memory.py [FRAMES]

Streets of 128x256, first as files to labels and overlays, then as one film to a film, each in a process of its own, as
predict.py does it. Writes results/predict_memory.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import RESULTS, save

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.inference.backends.backends import TorchBackend
from fastscnn.inference.segmenter import Segmenter
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.predict.inputs import Source
from fastscnn.predict.predict import Request, predict_images, predict_video
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.files import write_png
from fastscnn.utils.memory import keep_freed_memory

SIZE = (128, 256)
STREETS = 20
EVERY = 500
"""Frames between two looks at the memory; the first is the start that the growth is counted from."""


def resident_mib() -> float:
    """Memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watched(Segmenter):
    """A segmenter that notes the memory after every few frames."""

    count = 0

    def __call__(self, images):
        labels = super().__call__(images)
        self.count += 1
        if self.count % EVERY == 0:
            self.held[self.count] = round(resident_mib(), 1)
            print(self.count, self.held[self.count], file=sys.stderr, flush=True)
        return labels


def streets():
    return [draw_street([0, 0, number], SIZE).image for number in range(STREETS)]


def film(path: Path, frames: int) -> None:
    import av

    pictures = streets()
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=25)
        stream.height, stream.width = SIZE
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(pictures[number // 50 % STREETS], number, 1), format="rgb24")
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode())


def measure(what: str, frames: int, folder: Path) -> dict:
    keep_freed_memory()
    torch.manual_seed(0)
    segmenter = Watched(TorchBackend(FastSCNN().eval()), CITYSCAPES)
    segmenter.held = {}
    request = Request(folder / "out")
    if what == "film":
        source = Source(folder / "film.mp4", "film", folder, is_video=True)
        started = time.perf_counter()
        error = predict_video(segmenter, source, request, request.targets(source))
        assert error is None, error
    else:
        files = [folder / f"{number}.png" for number in range(STREETS)]
        sources = [Source(files[number % STREETS], f"frame{number % 100}", folder) for number in range(frames)]
        started = time.perf_counter()
        assert all(error is None for _, error in predict_images(segmenter, sources, request))
    assert segmenter.count == frames
    later = [held for count, held in segmenter.held.items() if count > EVERY]
    return {
        "resident_mib_after_frames": segmenter.held,
        "growth_mib_after_the_first_500": round(max(later) - segmenter.held[EVERY], 1),
        "frames_a_second": round(frames / (time.perf_counter() - started), 1),
    }


def main(frames: int) -> None:
    found = {}
    for what in ("files", "film"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if what == "film":
                film(folder / "film.mp4", frames)
            else:
                for number, image in enumerate(streets()):
                    write_png(folder / f"{number}.png", image)
            answer = subprocess.run(
                [sys.executable, __file__, "--measure", what, str(frames), name], stdout=subprocess.PIPE, check=True
            )
        found[what] = json.loads(answer.stdout.splitlines()[-1])
    result = {
        "what": f"{frames} frames of {SIZE[0]}x{SIZE[1]}: files to labels and overlays, and a film to a film",
        **found,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(save(RESULTS / "predict_memory.json", result), indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
