"""README and docs/ say what works: their commands, Python blocks, diagrams, numbers, and the examples.

Here every command is composed, and every Python block run; `make docs-test` runs the commands too (`-m slow`).
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from helpers import FAST, REPO, command, random_image, write_cityscapes, write_folder, write_image, write_run
from parsed_once import each_file_parsed_once

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
OTHER_TARGETS = re.compile(r"https?:|mailto:|#|/")
NOT_RUN = ("benchmark.py", "demo.py", "train.py")
"""Commands that take hours or do not end; tests of their own run them on tiny data, and here they are composed."""

NEEDS_MORE = (
    "drive.mp4",
    "=camvid",
    "VOC",
    "study=",
    "outputs/photos",
    "split=test",
    "trust=",
    "diff=",
    "watch=",
    "ENTITY",
    "check_data.py data=fine",
)
"""In commands that need a film, a data set, an account or runs that the tests of that feature make."""


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands():
    """Our commands on the pages, each once."""
    found = {}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.split(r"\s#", line)[0].strip()
                if line.startswith("python src/") and "--" not in line and " -sc " not in line and "…" not in line:
                    found.setdefault(" ".join(shlex.split(line)), line)
    return list(found.values())


def runnable():
    """Commands that run on tiny data as they stand."""
    return [
        line
        for line in commands()
        if line.split()[1][4:] not in NOT_RUN and not any(word in line for word in NEEDS_MORE)
    ]


@pytest.fixture(scope="module")
def parsed_once():
    with each_file_parsed_once():
        yield


@pytest.mark.parametrize("line", commands())
def test_command_composes(line, parsed_once):
    main, *arguments = shlex.split(line)[1:]
    settings = [argument for argument in arguments if not argument.startswith("-")]
    if "-m" in arguments:  # the first of each list
        settings = [setting if "[" in setting else setting.partition(",")[0] for setting in settings]
    # compose() knows neither Hydra's launchers nor the ranges of a search
    settings = [setting for setting in settings if not setting.startswith("hydra") and "(" not in setting]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(REPO / "conf"), version_base="1.3"):
        compose(Path(main).stem, settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist_and_links_lead_somewhere(page):
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    for line in "\n".join(blocks(page, "sh")).splitlines():
        if line.startswith("make "):
            for target in re.split(r"\s#", line)[0].split()[1:]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), line
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not OTHER_TARGETS.match(target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.fixture(scope="module")
def world(run, tmp_path_factory):
    """A folder with what the pages name: photographs, a film, an exported file."""
    folder = tmp_path_factory.mktemp("world")
    write_image(folder / "photo.jpg", random_image(size=(60, 80)))
    write_folder(folder / "photos", [f"p{number}" for number in range(6)])
    np.save(folder / "photo.npy", random_image(size=(60, 80)))
    done = run("export.py", "checkpoint=camvid", "format=onnx", "output=net.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def python(run, world, *arguments):
    done = run(*map(str, arguments), cwd=world)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run(page, run, world):
    script = world / f"{page.stem}_blocks.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    python(run, world, script)


@pytest.mark.parametrize(("size", "same"), [((70, 100), 1.0), ((900, 1300), 0.95)])
def test_snippet_for_a_file_gives_the_labels_of_segmenter(run, world, tmp_path, size, same):
    """Of a photograph that lies on its side, as it is and shrunk; a file of labels enlarges them in blocks."""
    from fastscnn import Segmenter

    (snippet,) = (block for block in blocks(REPO / "docs" / "deploy.md", "python") if "InferenceSession" in block)
    blurred = cv2.resize(random_image(size=(9, 13)), size[::-1], interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(blurred).save(tmp_path / "photo.jpg", exif=exif)
    (tmp_path / "net.onnx").symlink_to(world / "net.onnx")
    (tmp_path / "snippet.py").write_text(f'{snippet}\nlabels.save("labels.png")\n', encoding="utf-8")
    python(run, tmp_path, tmp_path / "snippet.py")
    found = np.asarray(Image.open(tmp_path / "labels.png"))
    expected = Segmenter.from_pretrained("camvid", device="cpu")(tmp_path / "photo.jpg")
    assert found.shape == expected.shape == size[::-1]
    assert (found == expected).mean() >= min(same, 0.999)


def test_diagrams_are_those_that_the_script_draws():
    sys.path.insert(0, str(REPO / "docs"))
    try:
        import draw
    finally:
        sys.path.pop(0)
    for name, drawing in draw.DRAWINGS.items():
        assert (draw.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == drawing().svg(), name


def test_numbers_of_the_readme_are_those_of_the_files():
    def result(name):
        return json.loads((REPO / "results" / f"{name}.json").read_text(encoding="utf-8"))

    rows = {row["runtime"]: row for row in result("camvid_int8")["rows"] if row["precision"] == "int8"}
    floats = {row["runtime"]: row for row in result("camvid_int8")["rows"] if row["precision"] == "float32"}
    costs = [floats[name]["test/miou"] - rows[name]["test/miou"] for name in ("onnx", "openvino")]
    street = result("upsampling")["ms_median"]["street"]
    skip = result("camvid_skip")
    text = (REPO / "README.md").read_text(encoding="utf-8")
    for shown in (
        f"| {100 * skip['keep']['metrics']['test/miou']:.1f} | `camvid.json`",
        f"| **{100 * result('camvid_weights')['metrics']['test/miou']:.1f}** | `camvid_weights.json`",
        f"| {100 * skip['zero']['metrics']['test/miou']:.1f} | `camvid_skip.json`",
        f"| {100 * result('schedule_streets')['after']['test_miou']['mean']:.1f} | `schedule_streets.json`",
        f"| {street['labels, fused']:.1f}, {street['labels, torch eager']:.0f} ms | `upsampling.json`",
        f"| {costs[0]:.2f}, {costs[1]:.2f} points | `camvid_int8.json`",
    ):
        assert shown in text


def test_examples_run(run, world):
    examples = REPO / "examples"
    assert all(len(file.read_text(encoding="utf-8").splitlines()) < 40 for file in examples.glob("*.py"))
    python(run, world, examples / "label_photo.py", "photo.jpg", "labelled.png")
    python(run, world, examples / "embed_onnx.py", "net.onnx", "photo.npy", "labels.npy")
    assert np.load(world / "labels.npy").shape == (60, 80)
    for seed in (0, 1):
        write_run(world / "outputs", 0.5 + 0.1 * seed, seed, started=seed)
    python(run, world, "compare.py", "runs=outputs")
    done = python(run, world, examples / "read_comparison.py", "outputs/compare/comparison.csv")
    assert "0.55" in done.stdout
    notebook = json.loads((examples / "first_steps.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (world / "notebook.py").write_text("\n".join(cells), encoding="utf-8")
    python(run, world, world / "notebook.py")


def test_example_follows_a_video(run, world):
    av = pytest.importorskip("av")
    with av.open(str(world / "drive.mp4"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=5)
        pictures.width, pictures.height = 64, 48
        for seed in range(3):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(random_image(seed, (48, 64)), format="rgb24")))
        container.mux(pictures.encode())
    done = python(run, world, REPO / "examples" / "follow_stream.py", "drive.mp4")
    assert "frame 3:" in done.stdout


@pytest.mark.slow
def test_example_trains_on_own_images(world):
    settings = ["trainer.max_epochs=1", *FAST]
    started = command(REPO / "examples" / "train_own_images.py", "photos", *settings, cwd=world)
    subprocess.run(**started, check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("line", runnable())
def test_command_runs(line, run, trained, tmp_path):
    folder = trained[1]
    root = write_cityscapes(tmp_path / "cityscapes", test=2, train_extra=2)
    write_image(tmp_path / "photo.jpg", random_image(size=(60, 80)))
    write_folder(tmp_path / "photos", [f"p{number}" for number in range(6)])
    shutil.copytree(folder, tmp_path / "outputs" / "NAME" / "TIME-ID")
    line = line.replace("data=folder data.root=DIR", "data=folder data.root=photos write=true")
    line = line.replace("data.root=DIR", f"data.root={root}").replace(
        "=FILE", "=outputs/NAME/TIME-ID/checkpoints/best.ckpt"
    )
    main, *arguments = shlex.split(line)[1:]
    done = run(main[4:], *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_snippet_in_cpp_gives_the_labels_of_python(run, world):
    openvino = pytest.importorskip("openvino")
    root = Path(openvino.__file__).parent
    (world / "labels.cpp").write_text(blocks(REPO / "docs" / "deploy.md", "cpp")[0], encoding="utf-8")
    library = next((root / "libs").glob("libopenvino.so.*"))
    built = [
        "g++",
        "-O1",
        "-std=c++17",
        "labels.cpp",
        f"-I{root}/include",
        library,
        f"-Wl,-rpath,{root}/libs",
        "-o",
        "labels",
    ]
    subprocess.run(built, cwd=world, check=True, timeout=300)
    python(run, world, "export.py", "checkpoint=camvid", "format=openvino", "output=net.xml")
    image = np.load(world / "photo.npy")
    image.transpose(2, 0, 1).tofile(world / "image.rgb")
    said = subprocess.run(
        ["./labels", "net.xml", "image.rgb", "60", "80"], cwd=world, check=True, capture_output=True, timeout=60
    )
    from fastscnn import Segmenter

    segmenter = Segmenter.from_pretrained("camvid")
    segmenter.multiple = 1  # the program does not pad
    ids, pixels = np.unique(segmenter(image), return_counts=True)
    found = dict(map(int, row.split()) for row in said.stdout.decode().splitlines())
    assert abs(sum(found.get(int(i), 0) - int(p) for i, p in zip(ids, pixels, strict=True))) <= 10
