"""The image classifier: network, metrics, mixing, checkpoints."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sklearn.metrics import top_k_accuracy_score

from fastscnn.cli.launch import CONF
from fastscnn.data.datamodules.build import build_image_data
from fastscnn.data.datasets.images import ImageClasses
from fastscnn.models.build import build_classifier
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.image_classifier import SHARED, ImageClassifier
from fastscnn.runs.renamed import with_companions
from fastscnn.training.classification import Classification
from fastscnn.training.fit import checked_data
from fastscnn.training.segmentation import Segmentation
from helpers import CLASSIFICATION, refused, write_class_folders


def build(root, **settings):
    data = {"root": root, "crop_pct": 0.875, "num_workers": 0} | settings
    return build_image_data(data, None, seed=0)


def classes(count):
    return ImageClasses("ImageNet", tuple(f"n{number:08d}" for number in range(count)))


def trainer(folder, **settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return pl.Trainer(accelerator="cpu", default_root_dir=folder, **quiet, **settings)


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (64, 64), (224, 224)])
def test_logits_for_any_size(size):
    network = ImageClassifier(num_classes=10).eval()
    assert network(torch.zeros(2, 3, *size)).shape == (2, 10)


def test_parts_that_are_shared_have_the_names_and_shapes_of_fast_scnn():
    ours = {name: tensor.shape for name, tensor in ImageClassifier().state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in FastSCNN().state_dict().items()}
    shared = {name for name in ours if name.startswith(SHARED)}
    assert {name: ours[name] for name in shared} == {n: s for n, s in theirs.items() if n.startswith(SHARED)}
    assert set(ours) - shared == {"fc.weight", "fc.bias"}
    assert sum(parameter.numel() for parameter in ImageClassifier().parameters()) == 1_201_752


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="num_classes=0"):
        ImageClassifier(0)
    with pytest.raises(ValueError, match="activation=swish"):
        ImageClassifier(activation="swish")
    with refused("model", "model=other"):
        build_classifier({"name": "other"}, 10)
    with pytest.raises(ValueError, match="batch of 1 image"):
        ImageClassifier()(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("count", [3, 20])
def test_top1_and_top5_equal_scikit_learns(count):
    module = Classification(CLASSIFICATION, classes(count)).eval()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, count, generator=generator)
    targets = torch.randint(count, (50,), generator=generator)
    for part in (slice(0, 20), slice(20, 50)):
        module.top1.update(logits[part], targets[part])
        module.top5.update(logits[part], targets[part])
    scores = module._compute_scores()
    for share, k in ((scores.top1, 1), (scores.top5, 5)):
        expected = 1.0 if k >= count else top_k_accuracy_score(targets, logits, k=k, labels=np.arange(count))
        assert share == pytest.approx(expected, abs=1e-6)
    assert scores.named("val") == {"val/top1": scores.top1, "val/top5": scores.top5}


def test_fits_a_tiny_set_and_its_checkpoint_is_rebuilt(tmp_path):
    data = build(write_class_folders(tmp_path / "data", images=6), crop_size=[32, 32], batch_size=9)
    torch.manual_seed(0)
    module = Classification(CLASSIFICATION | {"model": CLASSIFICATION["model"] | {"dropout": 0.0}}, data.classes)
    training = trainer(tmp_path, max_epochs=25, enable_checkpointing=False, num_sanity_val_steps=0)
    training.fit(module, datamodule=data)
    assert module.best_scores.top1 > 0.9
    file = tmp_path / "run.ckpt"
    training.save_checkpoint(file)
    again = Classification.from_checkpoint(file).eval()
    assert again.classes == data.classes
    images = next(iter(data.val_dataloader()))["image"]
    with torch.inference_mode():
        assert torch.equal(module.eval()(images), again(images))
    with refused("checkpoint", fix="pretrain=imagenet"):
        Segmentation.from_checkpoint(file)


def test_mixing_draws_from_the_seed_and_the_place_of_the_batch_alone(tmp_path):
    data = build(write_class_folders(tmp_path / "data"), crop_size=[16, 16], batch_size=6)
    losses = []
    for number, seed in enumerate((0, 0, 1)):
        np.random.seed(number)
        torch.manual_seed(0)
        module = Classification(
            CLASSIFICATION | {"augment": {"name": "imagenet", "mixup": 0.5, "cutmix": 1.0}, "seed": seed}, data.classes
        )
        training = trainer(tmp_path, max_steps=2, enable_checkpointing=False, limit_val_batches=0)
        training.fit(module, datamodule=data)
        losses.append(training.callback_metrics["train/loss"])
        assert "train/top1" not in training.callback_metrics
    assert losses[0] == losses[1] != losses[2]


def test_label_smoothing_raises_the_loss_of_a_sure_answer():
    config = CLASSIFICATION | {"loss": {"name": "classification", "label_smoothing": 0.1}}
    logits, target = torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([0])
    assert (
        Classification(config, classes(3)).loss(logits, target)
        > 1
        > Classification(CLASSIFICATION, classes(3)).loss(logits, target)
    )


def test_option_of_images_comes_with_the_loss_and_the_augmentation_that_it_needs():
    assert with_companions(["data=imagenet", "seed=1"]) == [
        "data=imagenet",
        "seed=1",
        "loss=classification",
        "augment=imagenet",
    ]
    assert with_companions(["augment=none", "data=imagenet"]) == [
        "augment=none",
        "data=imagenet",
        "loss=classification",
    ]
    for others in (["experiment=imagenet_pretrain", "data=imagenet"], ["data=fine"], ["-m", "data=imagenet,fine"]):
        assert with_companions(others) == others
    checked(*with_companions(["data=imagenet"]))


def checked(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides))
    checked_data(OmegaConf.to_container(config, resolve=True))


@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        (["data=imagenet"], "loss", "Set loss=classification."),
        (["data=imagenet", "loss=classification"], "augment.name", "Use augment=imagenet or augment=none."),
        (["data=fine", "loss=classification"], "loss", "Leave it out."),
        (["experiment=imagenet_pretrain", "pretrain=imagenet"], "pretrain", "Leave pretrain out."),
        (
            ["experiment=imagenet_pretrain", "resolution=half"],
            "resolution",
            "Leave resolution out and set data.crop_size=[H,W].",
        ),
        (["experiment=imagenet_pretrain", "skip=zero"], "skip", "Leave skip out."),
        (
            ["experiment=imagenet_pretrain", "augment.mixup=0.2", "data.batch_size=5"],
            "data.batch_size",
            "Set data.batch_size to a multiple of 2.",
        ),
        (
            ["experiment=imagenet_pretrain", "augment.mixup=-1"],
            "augment.mixup",
            "Set augment.mixup to a number of 0 or more.",
        ),
        (
            ["experiment=imagenet_pretrain", "data.crop_pct=0"],
            "data.crop_pct",
            "Set data.crop_pct to a number above 0, up to 1.",
        ),
        (
            ["experiment=imagenet_pretrain", "loss.label_smoothing=1"],
            "loss.label_smoothing",
            "Set loss.label_smoothing to a number from 0, below 1.",
        ),
        (
            ["experiment=imagenet_pretrain", "data.batch_size=1"],
            "data.batch_size",
            "Set data.batch_size=2 or more, and train on at least that many frames.",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, key, fix):
    checked("experiment=imagenet_pretrain")
    with refused(key, fix=fix):
        checked(*overrides)
