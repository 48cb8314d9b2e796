"""The paper's peers run through `train.py` and `eval.py` as Fast-SCNN does."""

import json

import pytest
import torch
import torch.nn.functional as F

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.models.peers import PEERS
from fastscnn.training.segmentation import Segmentation
from helpers import FAST, refused

pytest.importorskip("pytorchcv", reason="the peers come from the library pytorchcv, which is not installed")
EVAL = ["trainer.accelerator=cpu", "data.num_workers=0"]


@pytest.fixture(scope="module")
def contextnet(run, tmp_path_factory):
    """The process of a ContextNet trained for two batches on tiny streets, and where it ran."""
    cwd = tmp_path_factory.mktemp("peer")
    counts = ["data.streets.train=4", "data.streets.val=2", "data.streets.test=2", "data.streets.train_extra=0"]
    streets = ["data.streets.size=[64,128]", *counts, "data.crop_size=[64,128]", "data.batch_size=2"]
    done = run("train.py", "model=contextnet", "debug=one_batch", *streets, *FAST, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done, cwd


def checkpoint(cwd):
    (found,) = (cwd / "outputs").rglob("best.ckpt")
    return found


def test_run_is_recorded_under_its_model(contextnet):
    done, cwd = contextnet
    folder = checkpoint(cwd).parents[1]
    record = json.loads((folder / "run.json").read_text())
    assert folder.parent.name == record["name"] == "streets-model_contextnet"
    assert record["choices"]["model"] == "contextnet"
    assert record["metrics"]["last"]["step"] == 2
    assert "contextnet: 876,563 parameters" in done.stdout.replace("\n", " ")
    content = torch.load(checkpoint(cwd), weights_only=True)
    assert content["fastscnn"]["config"]["model"] == {"name": "contextnet", "in_channels": 3}
    assert not [key for key in content["state_dict"] if key.startswith("auxiliary")]


def test_checkpoint_of_a_peer_is_evaluated_with_trainings_own_number(contextnet, run):
    _, cwd = contextnet
    file = checkpoint(cwd)
    done = run("eval.py", f"checkpoint={file}", "split=val", "paths.run_dir=evaluation", *EVAL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((cwd / "evaluation" / "eval.json").read_text())
    recorded = json.loads((file.parents[1] / "run.json").read_text())["metrics"]["best"]
    assert evaluated["metrics"]["val/miou"] == pytest.approx(recorded["val/miou"], abs=1e-6)
    assert evaluated["model"]["name"] == "contextnet"


def test_skip_is_no_choice_for_the_checkpoint_of_a_peer(contextnet):
    with refused("skip", "skip=zero", "contextnet", fix="Leave skip out."):
        Segmentation.from_checkpoint(checkpoint(contextnet[1]), skip="zero")


@pytest.mark.parametrize("name", PEERS)
def test_one_training_batch_of_each_peer_is_its_plain_cross_entropy_and_reaches_every_weight(name):
    config = {"model": {"name": name, "in_channels": 3}, "loss": {"auxiliary_weight": 0.4}}
    module = Segmentation(config, CITYSCAPES).train()
    module._log_loss = lambda *_: None
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    labels = torch.randint(0, 19, (2, 64, 64), dtype=torch.uint8)
    torch.manual_seed(0)  # the same features are dropped in both passes
    loss = module.training_step({"image": images, "label": labels, "name": ["a", "b"]}, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = F.cross_entropy(module(images), labels.long())
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    weights = [parameter for parameter in module.parameters() if parameter.ndim == 4]
    assert all(weight.grad.abs().max() > 0 for weight in weights)
