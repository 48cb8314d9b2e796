"""The Triton programs: in Triton's interpreter on any machine that has Triton, and as they are on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends import cuda_graph
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.inference.backends.gpu_choices import OPEN
from fastscnn.inference.backends.triton import TritonNetwork
from fastscnn.kernels import reference, upsample_labels, upsample_probabilities
from fastscnn.kernels.cpu.labels import source_positions
from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda.choice import AFTER, EARLY, LATE, Choice, chosen, current
from fastscnn.models.base import OnlyLogits, SegmentationNetwork
from fastscnn.models.blocks import ConvBN
from fastscnn.models.fast_scnn import FastSCNN
from warm import run_program

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def random_network():
    torch.manual_seed(0)
    network = FastSCNN(7).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.weight.data.uniform_(0.5, 1.5)
    return network


def frames(*size):
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8)


def expected_logits(network, images):
    return network.coarse_logits(normalize(images.permute(0, 3, 1, 2)))


def test_upsampling_in_the_interpreter():
    run_program("interpreted_upsampling.py", TRITON_INTERPRET="1")


def test_layers_in_the_interpreter():
    run_program("interpreted_network.py", TRITON_INTERPRET="1")


def test_programs_compile_for_an_h100():
    run_program("compiled_programs.py")  # and before that: tensors on the CPU leave Triton unimported


def test_tensors_on_the_cpu_are_not_for_the_gpu():
    assert not cuda.applies(torch.zeros(1, 2, 3, 4))


@pytest.mark.parametrize("tile", [8, 128])
def test_labels_look_through_every_logit_that_a_tile_reaches(tile):
    for side, target in [
        (128, 1024),
        (256, 2048),
        (7, 333),
        (45, 135),
        (30, 30),
        (13, 5),
        (101, 805),
        (1, 300),
        (90, 6),
    ]:
        before, after, _ = source_positions(side, target)
        for start in range(0, target, tile):
            reached = after[min(start + tile, target) - 1] - before[start] + 1
            assert reached <= cuda._reached(tile, side, target), (side, target, start)


@pytest.mark.parametrize("layout", ["rows", "planes"])
def test_runner_computes_what_its_graph_captures(layout):
    network, images = random_network(), frames(2, 40, 72)
    probabilities = reference.upsample_probabilities(expected_logits(network, images), (40, 72))
    runner = GraphRunner(network, dtype=torch.float32, device="cpu")
    given = images if layout == "rows" else images.permute(0, 3, 1, 2).contiguous()
    assert (runner(given) != probabilities.argmax(1)).sum() <= 2
    torch.testing.assert_close(runner.probabilities(given), probabilities, rtol=0, atol=1e-5)


def test_a_graph_is_captured_as_was_chosen_for_frames_of_its_size(monkeypatch):
    class Memory:
        run_aside = staticmethod(lambda compute, times: compute())
        capture = staticmethod(lambda compute: (None, compute()))

    monkeypatch.setattr(cuda_graph, "choice_for", lambda device, pixels: (device.type, pixels))
    network, found = random_network(), []
    for choice in (None, Choice(walks=True)):
        runner = GraphRunner(network, dtype=torch.float32, device="cpu", choice=choice)
        runner._capture(Memory, lambda images: found.append(current()), frames(2, 40, 72))
    assert found == [("cpu", 2 * 40 * 72)] * 2 + [Choice(walks=True)] * 2 and current() == Choice()


def test_runner_refuses_what_it_cannot_run():
    network = random_network()
    with pytest.raises(ValueError, match="auto, torch, compile, triton"):
        GraphRunner(network, engine="onnx", device="cpu")
    without_programs = Small()
    without_programs.layers[2] = nn.Conv2d(16, 7, 3, padding=1)
    with pytest.raises(ValueError, match="programs for no layer of this Small"):
        GraphRunner(without_programs, engine="triton", device="cpu")
    with pytest.raises(ValueError, match="uint8"):
        GraphRunner(network, dtype=torch.float32, device="cpu")(torch.zeros(1, 3, 8, 8))


SHAPES = [
    (1, 19, 128, 256, (1024, 2048)),
    (2, 1, 3, 5, (7, 9)),
    (2, 64, 130, 170, (50, 60)),
    (1, 19, 11, 7, (333, 1)),
    (1, 11, 45, 60, (360, 480)),
    (3, 256, 9, 9, (100, 77)),
    (2, 19, 101, 203, (805, 1619)),
]


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_upsampling_on_the_gpu(shape, memory_format, dtype):
    *dimensions, size = shape
    logits = torch.randn(*dimensions, device="cuda").to(dtype).contiguous(memory_format=memory_format)
    assert cuda.applies(logits)
    full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    assert (upsample_labels(logits, size) != full.argmax(1)).sum() <= max(2, 2e-6 * full[:, 0].numel())
    out = torch.full_like(full, torch.nan, memory_format=torch.contiguous_format)
    assert upsample_probabilities(logits, size, out) is out
    assert (out - full.softmax(1)).abs().max() <= 1e-6


@on_gpu
def test_labels_on_the_gpu_are_the_same_with_every_tile():
    logits = torch.randn(2, 19, 101, 203, device="cuda")
    expected = upsample_labels(logits, (805, 1619))
    for tile in OPEN["label_tile"]:
        with chosen(Choice(label_tile=tile)):
            assert torch.equal(upsample_labels(logits, (805, 1619)), expected), tile


@on_gpu
def test_logits_that_are_not_finite_on_the_gpu():
    logits = torch.randn(1, 19, 32, 64, device="cuda")
    logits[0, 3, 5, 6], logits[0, 2, 0, 0], logits[0, 7, 31, 63] = torch.nan, torch.inf, -torch.inf
    full = F.interpolate(logits, (256, 512), mode="bilinear", align_corners=False)
    assert (upsample_labels(logits, (256, 512)) != full.argmax(1)).sum() <= 2


class Small(SegmentationNetwork):
    """A network that torch.compile is done with soon."""

    num_classes = 7

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(ConvBN(3, 16, 3, stride=8), nn.ReLU(), nn.Conv2d(16, 7, 1))

    def features(self, images):
        return OnlyLogits(self.layers(images))


CLOSE = {torch.float16: 0.02, torch.bfloat16: 0.15, torch.float32: 1e-4}
"""How far probabilities may be from those of float32."""


def check_runner(monkeypatch, network, sizes, dtype, **options):
    """Each size is captured and replayed; labels may differ where two classes are nearly as good."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    runner = GraphRunner(network, dtype=dtype, **options)
    for size in sizes:
        for _ in range(2):
            images = frames(*size).cuda()
            labels = runner(images).clone()
            full = reference.upsample_probabilities(expected_logits(network, images), size[1:])
            chosen = full.gather(1, labels[:, None].long())[:, 0]
            assert (full.amax(1) - chosen).max() < CLOSE[dtype]
    torch.testing.assert_close(runner.probabilities(images), full, rtol=0, atol=CLOSE[dtype])
    return runner


@on_gpu
@pytest.mark.parametrize("engine", ["torch", "triton"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_graphs_replay_each_size_and_keep_to_their_number(monkeypatch, engine, dtype):
    sizes = [(1, 128, 256), (2, 97, 133), (1, 64, 64), (1, 128, 256)]
    runner = check_runner(monkeypatch, random_network().cuda(), sizes, dtype, engine=engine, max_graphs=2)
    assert len(runner._graphs) <= 2


@on_gpu
@pytest.mark.parametrize("size", [(1, 512, 1024), (2, 33, 65)])
def test_the_same_frame_gives_the_same_bits_whether_launches_overlap_or_not(size):
    network, images = random_network().cuda(), frames(*size).cuda()
    found = []
    for overlaps in (EARLY, AFTER, LATE, EARLY):
        runner = GraphRunner(network, engine="triton", choice=Choice(overlaps))
        found += [runner.probabilities(images).clone() for _ in range(5)]
    assert all(torch.equal(found[0], other) for other in found)


@on_gpu
@pytest.mark.parametrize("size", [(1, 512, 1024), (2, 33, 65)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_same_frame_gives_the_same_bits_whether_blocks_walk_or_not(size, dtype):
    network, images = random_network().cuda(), frames(*size).cuda()
    found = []
    for walks in (False, True):
        runner = GraphRunner(network, dtype=dtype, engine="triton", choice=Choice(walks=walks))
        found.append(runner.probabilities(images).clone())
    assert torch.equal(*found)


@on_gpu
def test_the_best_engine_is_ours_for_fast_scnn_and_torch_for_others(monkeypatch):
    assert isinstance(GraphRunner(random_network(), engine="auto")._logits, TritonNetwork)
    check_runner(monkeypatch, Small().eval().requires_grad_(False).cuda(), [(1, 64, 96)], torch.float16, engine="auto")


def test_the_best_engine_without_a_gpu_is_torch():
    network, images = random_network(), frames(1, 16, 24)
    found = [
        GraphRunner(network, dtype=torch.float32, device="cpu", engine=engine)(images) for engine in ("auto", "torch")
    ]
    assert torch.equal(*found)


@on_gpu
def test_engine_of_torch_compile(monkeypatch):
    check_runner(
        monkeypatch, Small().eval().requires_grad_(False).cuda(), [(1, 128, 256)], torch.float16, engine="compile"
    )


@on_gpu
def test_labels_of_an_evicted_graph_stay_while_the_next_is_captured():
    """A pool of memory that no graph uses, and of which a tensor is alive, cannot be captured into once more."""
    network = Small().eval().requires_grad_(False).cuda()
    runner = GraphRunner(network, dtype=torch.float32, max_graphs=1)
    first = runner(frames(1, 64, 64).cuda())
    before = first.clone()
    second = runner(frames(1, 32, 96).cuda())
    assert torch.equal(first, before) and second.shape == (1, 32, 96)


@on_gpu
def test_graphs_hold_their_memory_beside_those_of_torch_compile():
    run_program("beside_compiled.py")
