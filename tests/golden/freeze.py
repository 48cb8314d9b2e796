"""The behaviour that a change of the code's structure must leave alone.

    python tests/golden/freeze.py write              write what this checkout does into tests/golden/
    python tests/golden/freeze.py against COMMIT     compare this checkout with another commit, to the bit

`tests/integration/test_frozen.py` holds what was written on any processor, to a tolerance; `against` runs both commits
on this machine, where nothing may differ. Names that changed on purpose stand in `renamed.json`, old to new.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parent
ROOT = GOLDEN.parents[1]
SAMPLES = 1000
"""Weights that are kept of each training."""


def observed(root: Path, folder: Path, **environment: str) -> Path:
    """Run `observe.py` on a checkout in a process of its own; returns the folder with what it wrote."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTHONPATH"))}
    variables |= {"OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(GOLDEN / "observe.py"), str(root), str(folder)]
    done = subprocess.run(command, cwd=folder.parent, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def tensors(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Name of a training to its tensors by name."""
    import torch

    content = torch.load(folder / "weights.pt", weights_only=True)
    return {name: {key: value.numpy() for key, value in state.items()} for name, state in content.items()}


def samples(state: dict[str, np.ndarray]) -> np.ndarray:
    """Some of a network's convolution weights, in the order of the tensors and the same ones each time; float32."""
    weights = np.concatenate(
        [value.ravel() for key, value in state.items() if value.ndim == 4 and not key.startswith("auxiliary")]
    )
    return weights[np.random.default_rng(0).choice(weights.size, SAMPLES, replace=False)]


def write() -> None:
    """Write the golden files of this checkout."""
    from golden.compose import configs

    (GOLDEN / "configs.json").write_text(json.dumps(configs(ROOT), indent=1) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = observed(ROOT, Path(name, "observed"))
        (GOLDEN / "keys.json").write_text((folder / "keys.json").read_text(encoding="utf-8") + "\n", encoding="utf-8")
        np.savez_compressed(GOLDEN / "weights.npz", **{name: samples(state) for name, state in tensors(folder).items()})
        with np.load(folder / "labels.npz") as labels:
            np.savez_compressed(GOLDEN / "labels.npz", **labels)


def against(commit: str) -> int:
    """Compare this checkout with a commit, to the bit; returns the number of differences."""
    with tempfile.TemporaryDirectory() as name:
        other = Path(name, "other")
        subprocess.run(["git", "worktree", "add", "--detach", str(other), commit], cwd=ROOT, check=True, timeout=60)
        try:
            then = observed(other, Path(name, "then"))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True, timeout=60)
        now = observed(ROOT, Path(name, "now"))
        renamed = json.loads((GOLDEN / "renamed.json").read_text(encoding="utf-8"))["tensors"]
        wrong = []
        found = tensors(now)
        for training, state in tensors(then).items():
            for key, value in state.items():
                if not np.array_equal(value, found[training].get(renamed.get(key, key))):
                    wrong.append(f"{training}: {key}")
        with np.load(then / "labels.npz") as before, np.load(now / "labels.npz") as after:
            wrong += [f"labels {size}" for size in before if not np.array_equal(before[size], after[size])]
    print(*wrong, sep="\n")
    print(f"{len(wrong)} tensors and label maps differ from {commit}.")
    return len(wrong)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    if sys.argv[1:] == ["write"]:
        write()
    elif sys.argv[1:2] == ["against"] and len(sys.argv) == 3:
        sys.exit(against(sys.argv[2]) > 0)
    else:
        sys.exit(__doc__)
