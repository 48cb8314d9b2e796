"""Fine-tuning: what fits is taken from a checkpoint, the class layer by the classes' names, and frozen parts stay."""

import hashlib
import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import jaccard_score

from fastscnn.data.datasets.classes import CAMVID, ClassTable
from fastscnn.data.transforms.normalize import normalize
from fastscnn.runs.record import read_record
from fastscnn.training.callbacks import starting_score
from fastscnn.training.fine_tuning import class_layers, find_start, take
from fastscnn.training.fit import checked_data, fit
from fastscnn.training.freezing import freeze_parts
from fastscnn.training.segmentation import Segmentation
from helpers import FAST, FOLDER_CLASSES, FOLDER_COLORS, MODEL, SEGMENTATION, job, refused, save_module, write_folder

pytestmark = pytest.mark.usefixtures("shallow_networks")

YARD = ClassTable("yard", ("road", "gnome", "sky"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (0, 1, 2), (255,))
CLASS_LAYER = "network.classifier.3.weight"


def built(classes=YARD, seed=1, **settings):
    torch.manual_seed(seed)
    return Segmentation(SEGMENTATION | settings, classes)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """A checkpoint of CamVid's classes, and its tensors."""
    module = built(CAMVID, seed=0)
    return save_module(module, tmp_path_factory.mktemp("streets") / "best.ckpt"), module.state_dict()


def test_class_layers_are_those_with_a_row_for_each_class_in_any_network():
    assert class_layers(built()) == {
        f"{name}.{kind}": 0
        for name in ("network.classifier.3", "auxiliary.0.3", "auxiliary.1.3")
        for kind in ("weight", "bias")
    }
    many = replace(YARD, names=tuple(f"{n}" for n in range(128)), colors=YARD.colors[:1] * 128, file_values=range(128))
    assert class_layers(built(many)).keys() == class_layers(built()).keys()


def test_all_that_fits_is_taken_and_rows_go_by_the_names_of_the_classes(streets):
    file, given = streets
    module, fresh = built(), built().state_dict()
    taken = take(module, find_start({"checkpoint": str(file)}))
    layers = class_layers(module)
    for name, tensor in module.state_dict().items():
        if name not in layers:
            assert torch.equal(tensor, given[name]), name
            continue
        assert torch.equal(tensor[0], given[name][CAMVID.names.index("road")])
        assert torch.equal(tensor[1], fresh[name][1]), "no such class there"
        assert torch.equal(tensor[2], given[name][CAMVID.names.index("sky")])
    record = taken.record()
    assert record["classes"] == {"taken": ["road", "sky"], "fresh": ["gnome"]}
    assert record["parts"]["classifier"]["by_class"] == 2
    assert record["parts"]["learning_to_downsample"]["fresh"] == 0
    assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads(json.dumps(record)) == record


def test_rows_go_by_name_though_the_numbers_of_classes_are_equal(streets, tmp_path):
    file = save_module(built(replace(YARD, names=("sky", "road", "boat")), seed=0), tmp_path / "a.ckpt")
    given = torch.load(file, weights_only=True)["state_dict"][CLASS_LAYER]
    module = built()
    before = module.state_dict()[CLASS_LAYER].clone()
    take(module, find_start({"checkpoint": str(file)}))
    now = module.state_dict()[CLASS_LAYER]
    assert torch.equal(now[0], given[1])
    assert torch.equal(now[1], before[1])
    assert torch.equal(now[2], given[0])


def test_no_class_in_common_leaves_the_class_layer_as_it_is(tmp_path):
    file = save_module(built(replace(YARD, names=("a", "b", "c")), seed=0), tmp_path / "a.ckpt")
    module = built()
    before = module.state_dict()[CLASS_LAYER].clone()
    taken = take(module, find_start({"checkpoint": str(file)}))
    assert torch.equal(module.state_dict()[CLASS_LAYER], before)
    assert taken.record()["classes"]["taken"] == []
    assert taken.parts["classifier"].by_class == 0
    assert taken.parts["classifier"].fresh == 2


def test_safetensors_of_any_origin_give_what_fits_by_shape(tmp_path):
    given = built(seed=0).network.state_dict()
    given["global_feature_extractor.0.block.0.weight"] = torch.zeros(1)
    given["extra"] = torch.zeros(1)
    save_file({name: tensor.contiguous() for name, tensor in given.items()}, tmp_path / "net.safetensors")
    module = built()
    taken = take(module, find_start({"checkpoint": str(tmp_path / "net.safetensors")}))
    name = "learning_to_downsample.0.0.weight"
    assert torch.equal(module.network.state_dict()[name], given[name])
    assert torch.equal(module.state_dict()[CLASS_LAYER], given[CLASS_LAYER.removeprefix("network.")])
    assert "network.extra" in taken.ignored
    assert taken.classes == {}
    assert taken.parts["auxiliary"].taken == 0


def test_network_that_comes_with_the_package_is_a_start_by_its_name():
    start = find_start({"checkpoint": "camvid"})
    assert "road" in start.names
    assert take(built(), start).record()["classes"]["taken"] == ["road", "sky"]


def test_file_that_fits_nowhere_or_is_none_is_refused(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with refused("init.checkpoint", "other.safetensors"):
        take(built(), find_start({"checkpoint": str(tmp_path / "other.safetensors")}))
    with refused("init.checkpoint", "init.checkpoint=nowhere.ckpt", fix="init.checkpoint=FILE"):
        find_start({"checkpoint": "nowhere.ckpt"})
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with refused("init.checkpoint", "text.ckpt"):
        find_start({"checkpoint": str(tmp_path / "text.ckpt")})


def test_frozen_parts_keep_weights_and_statistics_also_after_an_evaluation():
    module = built()
    freeze_parts(module, ["learning_to_downsample", "global_feature_extractor.0"])
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    optimizer = torch.optim.SGD([{"params": list(module.parameters())}], lr=0.1, weight_decay=0.1)
    images, labels = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8), torch.ones(2, 32, 64, dtype=torch.uint8)
    module.eval()
    module.train()
    module.objective(images, labels).backward()
    optimizer.step()
    frozen = ("network.learning_to_downsample.", "network.global_feature_extractor.0.")
    for name, tensor in module.state_dict().items():
        if name.startswith(frozen):
            assert torch.equal(tensor, before[name]), name
    changed = [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any(name.startswith("network.global_feature_extractor.1.") for name in changed)
    assert any("running_mean" in name for name in changed)


def test_part_that_does_not_exist_and_nothing_left_to_train_are_refused():
    with refused("init.freeze", "encoder", fix="learning_to_downsample, global_feature_extractor"):
        freeze_parts(built(), ["encoder"])
    with refused("init.freeze", "classifier"):
        freeze_parts(built(), ["learning_to_downsample", "global_feature_extractor", "feature_fusion", "classifier"])


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("init.checkpoint", ["init.checkpoint=a.ckpt", "pretrain=imagenet"]),
        ("init.freeze", ["init.freeze=[learning_to_downsample]", "pretrain=imagenet"]),
        ("init.freeze", ["init.freeze=[learning_to_downsample]"]),
        ("init.freeze", ["init.checkpoint=a.ckpt", "init.freeze=learning_to_downsample"]),
        ("init.checkpoint", ["experiment=imagenet_pretrain", "init.checkpoint=a.ckpt"]),
    ],
)
def test_what_makes_no_sense_together_is_refused(key, settings):
    from omegaconf import OmegaConf

    with job(*settings, *FAST) as config, refused(key):
        checked_data(OmegaConf.to_container(config, resolve=True))


@pytest.mark.parametrize(("key", "beside"), [("init.checkpoint", "init.checkpoint=camvid"), ("pretrain", "model=enet")])
def test_what_makes_no_sense_beside_a_pretraining_is_refused_before_one_is_looked_for(tmp_path, key, beside):
    asked = ["data=fine", f"data.root={tmp_path}", beside, "pretrain=imagenet", "logger=csv", *FAST]
    with job(*asked, f"paths.output_dir={tmp_path}") as config, refused(key, "pretrain=imagenet"):
        fit(config)


@pytest.fixture(scope="module")
def tuned(streets, tmp_path_factory):
    """A run on a folder that starts from the checkpoint, with a frozen part."""
    work = tmp_path_factory.mktemp("work")
    root = write_folder(work / "photos", [f"{number}" for number in range(5)])
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    chosen = ["data=folder", f"data.root='{root}'", "trainer.max_epochs=1", f"paths.run_dir='{work / 'run'}'"]
    chosen += [f"data.store='{work / 'store'}'", f"init.checkpoint='{streets[0]}'", "logger=csv", *FAST]
    chosen += ["data.random_split.val=0.6"]
    with job(*chosen, "init.freeze=[learning_to_downsample]") as config, redirect_stdout(io.StringIO()) as printed:
        fit(config)
    (work / "run/printed.txt").write_text(printed.getvalue())
    return work / "run"


def test_run_starts_from_the_checkpoint_and_records_it(tuned, streets):
    file, given = streets
    record = read_record(tuned)["init"]
    assert record["checkpoint"] == str(file)
    assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["classes"] == {"taken": ["sky", "tree", "road"], "fresh": []}
    assert record["frozen"] == ["learning_to_downsample"]
    state = torch.load(tuned / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    name = "network.learning_to_downsample.0.0.weight"
    assert torch.equal(state[name], given[name])
    assert not torch.equal(state[CLASS_LAYER][0], given[CLASS_LAYER][CAMVID.names.index("sky")]), "it was trained"


def test_run_says_what_its_weights_are_worth_before_the_first_step(tuned, streets):
    """As scikit-learn counts what the checkpoint's network predicts for all frames that were drawn for validation."""
    drawn = (tuned / "lists/val.txt").read_text().split()
    assert len(drawn) == 3, "more than the two batches that Lightning tries by default"
    photos = tuned.with_name("photos")
    images = np.stack([np.asarray(Image.open(photos / f"images/{name}.jpg")) for name in drawn])
    mask = np.stack([np.asarray(Image.open(photos / f"masks/{name}.png")) for name in drawn]).astype(int)
    module = built(CAMVID).eval()
    module.load_state_dict(streets[1])
    with torch.no_grad():
        logits = module.network(normalize(torch.from_numpy(images).movedim(-1, 1)))
    predicted = logits[:, [CAMVID.names.index(name) for name in ("sky", "tree", "road")]].argmax(1).numpy()
    truth = np.select([(mask == color).all(-1) for color in FOLDER_COLORS], range(3), 255)
    expected = jaccard_score(truth[truth != 255], predicted[truth != 255], average="macro", labels=range(3))
    assert read_record(tuned)["init"]["val/miou"] == pytest.approx(expected, abs=0.005)
    assert (
        f"before the first step: val/miou {read_record(tuned)['init']['val/miou']:.4f}"
        in (tuned / "printed.txt").read_text()
    )


def test_training_that_stays_below_its_start_says_so_at_its_end(tuned):
    """As the record has it; a run from trained weights says nothing where a validation reached them."""
    record = read_record(tuned)
    start, best = record["init"]["val/miou"], record["metrics"]["best"]["val/miou"]
    text = (tuned / "printed.txt").read_text()
    assert (f"{best:.4f} at best, {start:.4f} before" in text) == (best < start)


@pytest.mark.parametrize(
    ("start", "best", "says"), [(0.5, 0.4, True), (0.5, 0.5, False), (None, 0.4, False), (0.5, None, False)]
)
def test_end_below_the_start_is_told(monkeypatch, capsys, start, best, says):
    record = SimpleNamespace(data={"init": {} if start is None else {"val/miou": start}})
    saved = SimpleNamespace(best_model_score=None if best is None else torch.tensor(best))
    monkeypatch.setattr(starting_score, "best_checkpoints", lambda trainer: [saved])
    starting_score.StartingScore(record).on_train_end(None, built(CAMVID))
    assert ("stayed below that of the weights" in capsys.readouterr().out) == says


def test_another_resolution_than_the_files_is_named_with_the_setting_that_keeps_it():
    start = find_start({"checkpoint": "camvid"})
    assert "resolution=double keeps it" in str(take(built(CAMVID, resolution={"name": "full", "scale": 1.0}), start))
    assert "resolution" not in str(take(built(CAMVID, resolution={"name": "double", "scale": 2.0}), start))


def test_resumed_run_needs_no_checkpoint_and_keeps_its_parts_frozen(tuned, streets):
    file, given = streets
    away = file.rename(file.with_name("away.ckpt"))
    try:
        with job(f"resume='{tuned}'", "trainer.max_epochs=2") as config:
            fit(config)
    finally:
        away.rename(file)
    state = torch.load(tuned / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in state.items():
        if name.startswith("network.learning_to_downsample."):
            assert torch.equal(tensor, given[name]), name
    assert read_record(tuned)["init"]["frozen"] == ["learning_to_downsample"]


def test_model_without_auxiliary_heads_takes_a_checkpoint_with_them(streets):
    module = built(loss=SEGMENTATION["loss"] | {"auxiliary_weight": 0.0}, model=MODEL | {"activation": "relu6"})
    taken = take(module, find_start({"checkpoint": str(streets[0])}))
    assert all(name.startswith("auxiliary.") for name in taken.ignored)
