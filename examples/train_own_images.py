"""Train on a folder of your own images and masks from Python: python train_own_images.py photos [SETTING=VALUE ...]

The folder has images/ and masks/ with files of equal names; see docs/own_images.md.
"""

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src"
photos, *settings = sys.argv[1:]
data = ["data=folder", f"data.root={photos}"]
run = Path("outputs/own_images")

if not (Path(photos) / "classes.yaml").exists():  # every file is looked at, and the classes are proposed
    subprocess.run([sys.executable, SOURCES / "check_data.py", *data, "write=true"], check=True)
train = ["train.py", *data, f"paths.run_dir={run}", "init.checkpoint=camvid", *settings]
subprocess.run([sys.executable, SOURCES / train[0], *train[1:]], check=True)

from fastscnn import Segmenter  # noqa: E402

segmenter = Segmenter.from_checkpoint(run / "checkpoints" / "best.ckpt")
first = min(path for path in (Path(photos) / "images").rglob("*") if path.is_file())
print(f"{first.name}: {segmenter(str(first)).shape}, classes {', '.join(segmenter.classes.names)}")
