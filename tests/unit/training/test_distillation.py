"""Distillation: the network is drawn to the logits of a trained one, which is named by its file and its digest."""

import copy
import hashlib

import pytest
import torch
from omegaconf import OmegaConf

from fastscnn.data.datasets.classes import CAMVID, ClassTable
from fastscnn.data.transforms.normalize import normalize
from fastscnn.runs.record import read_record
from fastscnn.training.distillation import Teacher, find_source
from fastscnn.training.fit import checked_data, fit
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.step_graph import StepGraph
from helpers import FAST, FOLDER_CLASSES, MODEL, SEGMENTATION, job, refused, save_module, write_folder

pytestmark = pytest.mark.usefixtures("shallow_networks")

PHOTOS = ClassTable("photos", ("sky", "tree", "road"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (0, 1, 2), (255,))


def built(classes=PHOTOS, seed=1, **settings):
    torch.manual_seed(seed)
    return Segmentation(SEGMENTATION | {"model": MODEL | {"dropout": 0.0}}, classes, **settings)


def saved(module, file):
    """The checkpoint of a module, whose batch statistics are no longer those of its start."""
    module.train()
    with torch.no_grad():
        module.network(torch.randn(4, 3, 64, 96))
    return save_module(module, file)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """The checkpoint of a network with the classes of the photographs."""
    return saved(built(seed=0), tmp_path_factory.mktemp("larger") / "best.ckpt")


@pytest.fixture
def frames():
    draw = torch.manual_seed(2)
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=draw, dtype=torch.uint8)
    return images, torch.randint(0, 3, (2, 64, 96), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("size", [(8, 12), (4, 7)])
def test_divergence_is_that_of_the_two_softmaxes_at_the_networks_own_size(larger, frames, temperature, size):
    source = find_source({"checkpoint": str(larger)})
    logits = torch.randn(2, 3, *size, requires_grad=True)
    given = source.trained.network.coarse_logits(normalize(frames[0]))
    given = torch.nn.functional.interpolate(given, size, mode="bilinear", align_corners=False)
    theirs, own = ((one.double() / temperature).softmax(1) for one in (given, logits))
    expected = 0.5 * temperature**2 * (theirs * (theirs.log() - own.log())).sum(1).mean()
    loss = Teacher(source, 0.5, temperature).loss(logits, frames[0])
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-6)
    ours, plain = torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-7)


def test_teacher_may_be_another_network_whose_logits_are_resized(tmp_path, frames):
    torch.manual_seed(0)
    module = Segmentation(SEGMENTATION | {"model": {"name": "enet", "in_channels": 3}}, PHOTOS)
    source = find_source({"checkpoint": str(saved(module, tmp_path / "enet.ckpt"))})
    given = source.trained.network(normalize(frames[0]))
    theirs = torch.nn.functional.interpolate(given, (8, 12), mode="bilinear", align_corners=False).log_softmax(1)
    logits = torch.randn(2, 3, 8, 12)
    expected = (theirs.exp() * (theirs - logits.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(Teacher(source).loss(logits, frames[0]), expected, rtol=1e-3, atol=1e-5)


def test_network_that_is_its_own_teacher_has_nothing_to_learn(larger, frames):
    teacher = Teacher(find_source({"checkpoint": str(larger)}))
    module = built(teacher=teacher)
    module.load_state_dict(torch.load(larger, weights_only=True)["state_dict"])
    logits = module.eval().network.coarse_logits(normalize(frames[0]))
    assert teacher.loss(logits, frames[0]).item() == pytest.approx(0, abs=1e-6)


def test_teacher_is_added_to_the_loss_and_is_no_part_of_the_module(larger, frames):
    module, alone = built(teacher=Teacher(find_source({"checkpoint": str(larger)}))), built()
    assert module.state_dict().keys() == alone.state_dict().keys()
    assert len(list(module.parameters())) == len(list(alone.parameters()))
    assert copy.deepcopy(module).teacher is module.teacher, "an average of the weights has no copy of it"
    plain = alone.objective(*frames)
    logits, heads = built()._heads(frames[0])
    torch.testing.assert_close(module.objective(*frames), plain + module.teacher.loss(logits, frames[0]))
    part = module.teacher.added(module.loss.part(logits, heads, frames[1]), logits, frames[0])
    torch.testing.assert_close(part.means.sum(), plain + module.teacher.loss(logits, frames[0]))
    assert part.weights[-1] == part.size


def test_step_with_a_teacher_can_be_a_graph(larger, frames):
    eager, graphed = (built(teacher=Teacher(find_source({"checkpoint": str(larger)}))) for _ in range(2))
    loss = eager.objective(*frames)
    loss.backward()

    def computed_once(compute):
        outputs = compute()
        return lambda: None, outputs

    torch.testing.assert_close(StepGraph(computed_once)(graphed, graphed.objective, *frames), loss.detach())
    for ours, plain in zip(graphed.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, plain.grad)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = write_folder(tmp_path_factory.mktemp("data") / "photos", [f"{number}" for number in range(5)])
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    return ["data=folder", f"data.root='{root}'", f"data.store='{root.parent / 'store'}'", "logger=csv", *FAST]


@pytest.fixture(scope="module")
def distilled(larger, photos, tmp_path_factory):
    """A run of one epoch that learns from the larger network, with losses of regions."""
    folder = tmp_path_factory.mktemp("work") / "run"
    asked = [f"distill.checkpoint='{larger}'", "distill.temperature=2", "loss=lovasz", "loss.dice_weight=0.5"]
    with job(*photos, *asked, "trainer.max_epochs=1", f"paths.run_dir='{folder}'") as config:
        fit(config)
    return folder


def test_run_records_what_it_learns_from_and_saves_nothing_of_it(distilled, larger):
    record = read_record(distilled)
    digest = hashlib.sha256(larger.read_bytes()).hexdigest()
    assert record["status"] == "finished"
    assert record["distill"]["checkpoint"] == str(larger)
    assert record["distill"]["sha256"] == record["settings"]["distill.sha256"] == digest
    assert (record["distill"]["model"], record["distill"]["temperature"]) == ("fast_scnn", 2)
    state = torch.load(distilled / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state.keys() == built().state_dict().keys()


def test_run_goes_on_only_with_the_same_file_wherever_it_lies(distilled, larger, tmp_path):
    longer = [f"resume='{distilled}'", "trainer.max_epochs=2"]
    with job(*longer, "distill.checkpoint=null") as config, refused("distill.checkpoint"):
        fit(config)
    moved = larger.rename(larger.with_name("moved.ckpt"))
    try:
        with job(*longer) as config, refused("distill.checkpoint", larger):
            fit(config)
        other = saved(built(seed=5), tmp_path / "other.ckpt")
        with job(*longer, f"distill.checkpoint='{other}'") as config, refused("distill.checkpoint", other):
            fit(config)
        assert read_record(distilled)["status"] == "finished"
        with job(*longer, f"distill.checkpoint='{moved}'") as config:
            fit(config)
    finally:
        moved.rename(larger)
    assert read_record(distilled)["metrics"]["last"]["epoch"] == 2


def test_run_without_a_teacher_does_not_get_one_as_it_goes_on(photos, larger, tmp_path):
    with job(*photos, "trainer.max_epochs=1", f"paths.run_dir='{tmp_path / 'run'}'") as config:
        fit(config)
    with (
        job(f"resume='{tmp_path / 'run'}'", "trainer.max_epochs=2", f"distill.checkpoint='{larger}'") as config,
        refused("distill.checkpoint"),
    ):
        fit(config)


def test_teacher_of_other_classes_is_refused_before_a_folder_is_made(photos, tmp_path):
    file = saved(built(CAMVID), tmp_path / "camvid.ckpt")
    asked = [f"distill.checkpoint='{file}'", f"paths.run_dir='{tmp_path / 'run'}'"]
    with job(*photos, *asked) as config, refused("distill.checkpoint", file, "11 classes", "has the 3 of"):
        fit(config)
    assert not (tmp_path / "run").exists()


def test_file_that_is_none_is_refused_by_the_settings_name():
    with refused("distill.checkpoint", "distill.checkpoint=nowhere.ckpt"):
        find_source({"checkpoint": "nowhere.ckpt"})


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("distill.weight", ["distill.weight=0"]),
        ("distill.temperature", ["distill.temperature=-1"]),
        ("distill.checkpoint", ["experiment=imagenet_pretrain", "distill.checkpoint=a.ckpt"]),
    ],
)
def test_what_cannot_be_meant_so_is_refused(key, settings):
    with job(*settings, *FAST) as config, refused(key):
        checked_data(OmegaConf.to_container(config, resolve=True))
