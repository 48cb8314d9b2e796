"""What the commands of a checkout do: `python tests/golden/observe.py ROOT FOLDER` writes it into FOLDER.

Two-epoch trainings in which one setting each differs, an evaluation, an exported ONNX file's labels at three sizes:
real commands, run one after the other in this process, on data that is the same on any machine. ROOT is the checkout
whose `src/*.py` are called; it may be another commit than this file's. FOLDER receives `weights.pt` (name of the
training to its tensors), `labels.npz` and `keys.json`.
"""

import csv
import json
import os
import runpy
import sys
from pathlib import Path

TRAININGS = {
    "default": [],
    "skip": ["skip=zero"],
    "activation": ["activation=relu6"],
    "hard pixels": ["loss=ohem", "loss.hard_pixels.probability=0.05"],
    "label smoothing": ["loss.label_smoothing=0.5"],
    "class weights": [f"loss.class_weights={[5 ** (number % 3) for number in range(19)]}".replace(" ", "")],
    "no auxiliary heads": ["loss.auxiliary_weight=0"],
    "learning rate": ["optimizer.lr=6e-5", "optimizer.power=0.5"],
    "momentum and L2": ["optimizer.momentum=0.5", "optimizer.weight_decay=0.01"],
    "accumulation and clipping": ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5"],
    "no augmentation": ["augment=none"],
    "half resolution": ["resolution=half"],
    "coarse labels": ["data=fine_coarse"],
}
"""What each training sets beside the shared settings. The learning rate is small: from a large one, the last bits of
two processors grow apart within four steps."""
LONGER = ["trainer.max_epochs=30", "trainer.check_val_every_n_epoch=30"]
"""For the exported network, whose batch statistics must be those of the data, or it gives one class everywhere."""
SIZES = ((64, 128), (48, 80), (33, 65))


def call(root: Path, script: str, *arguments: str) -> None:
    """Run a main as a user would; its exit code must be 0."""
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(str(root / "src" / script), run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, (script, arguments, stop.code)


def keys_of(value, prefix=""):
    """Dotted keys of nested dictionaries; those of classes and of sources are as many as the data has."""
    if not isinstance(value, dict):
        return [prefix.rstrip(".")]
    return sorted({key for name, inner in value.items() for key in keys_of(inner, f"{prefix}{name}.")})


def observe(root: Path, folder: Path) -> None:
    """Run everything, and write what came of it."""
    import numpy as np
    import onnxruntime
    import torch

    from helpers import write_cityscapes

    data = write_cityscapes(folder / "data", size=(64, 128), train=9, val=2, train_extra=3)
    shared = ["data=fine", f"data.root={data}", "data.batch_size=4", "trainer.max_epochs=2", "data.num_workers=0"]
    shared += [
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
        "optimizer.lr=3e-5",
        "logger=csv",
        "data.store=off",
    ]
    weights = {}
    for name, settings in TRAININGS.items():
        run = folder / name.replace(" ", "-")
        call(root, "train.py", *shared, *settings, f"paths.run_dir={run}")
        weights[name] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    torch.save(weights, folder / "weights.pt")

    call(root, "train.py", *shared, *LONGER, f"paths.run_dir={folder / 'longer'}")
    run = folder / "longer"
    checkpoint = f"checkpoint={run / 'checkpoints' / 'last.ckpt'}"
    call(root, "eval.py", checkpoint, f"paths.run_dir={folder / 'eval'}", "data.num_workers=0")
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        columns = sorted(next(csv.reader(file)))
    contents = {name: json.loads((folder / name).read_text("utf-8")) for name in ("longer/run.json", "eval/eval.json")}
    keys = {Path(name).name: keys_of(content) for name, content in contents.items()}
    (folder / "keys.json").write_text(json.dumps(keys | {"metrics.csv": columns}, indent=1), encoding="utf-8")

    call(root, "export.py", checkpoint, f"output={folder / 'net.onnx'}")
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"))
    random = np.random.default_rng(0)
    labels = {}
    for height, width in SIZES:
        coarse = random.integers(0, 256, (1, 3, -(-height // 8), -(-width // 8)), np.uint8)
        images = coarse.repeat(8, axis=2).repeat(8, axis=3)[..., :height, :width]
        (labels[f"{height}x{width}"],) = session.run(None, {"images": np.ascontiguousarray(images)})
    np.savez(folder / "labels.npz", **labels)


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "NETRC": os.devnull}
    root, folder = (Path(argument).resolve() for argument in sys.argv[1:3])
    sys.path[:0] = [str(root / "src"), str(Path(__file__).resolve().parents[1])]
    folder.mkdir(parents=True)
    observe(root, folder)
