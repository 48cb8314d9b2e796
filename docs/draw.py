"""Draws the diagrams of the pages into docs/pictures/: python docs/draw.py. A test holds them against this script."""

import itertools
import sys
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"
SKY, GRASS, SAND, ROSE, LILAC, GREY = "#cfe3f7", "#d3ecd0", "#f8e7c0", "#f6d1d1", "#e2d6f3", "#ececec"
INK = "#223"


class Drawing:
    """An SVG of boxes, arrows and text, on white."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = (width, height)
        self.title = title
        self.parts: list[str] = []

    def text(
        self, x: float, y: float, text: str, size: int = 13, anchor: str = "middle", weight: str = "normal"
    ) -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, lines: tuple[str, ...], color: str = SKY) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{color}" stroke="{INK}"/>'
        )
        top = y + height / 2 - 8.5 * (len(lines) - 1) + 4.5
        for number, line in enumerate(lines):
            weight = "bold" if number == 0 else "normal"
            self.text(x + width / 2, top + 17 * number, line, 13 if number == 0 else 12, weight=weight)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        path = "M" + " L".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.5"{dash} marker-end="url(#head)"/>'
        )

    def svg(self) -> str:
        width, height = self.size
        head = '<marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        head += f'<path d="M0,0 L9,4 L0,8 z" fill="{INK}"/></marker>'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
                f' font-family="Helvetica, Arial, sans-serif" fill="{INK}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f'<defs>{head}</defs><rect width="{width}" height="{height}" fill="white"/>',
                *self.parts,
                "</svg>\n",
            ]
        )


def network() -> Drawing:
    """Fast-SCNN with the shapes and parameters that the module has, at 1024x2048 and 19 classes."""
    import torch

    from fastscnn import FastSCNN

    net = FastSCNN().eval().to("meta")
    context, classifier = net.global_feature_extractor, net.classifier
    parts = (
        ("learning to downsample", SKY, net.learning_to_downsample, [*net.learning_to_downsample]),
        ("global feature extractor", GRASS, context, [*context]),
        ("feature fusion", SAND, net.feature_fusion, [net.feature_fusion]),
        ("classifier", ROSE, classifier, [*classifier]),
    )
    shapes: dict[torch.nn.Module, torch.Size] = {}
    for _, _, _, blocks in parts:
        for block in blocks:
            block.register_forward_hook(lambda block, _, output: shapes.__setitem__(block, output.shape))
    net(torch.empty(1, 3, 1024, 2048, device="meta"))

    drawing = Drawing(1050, 430, "Fast-SCNN, drawn from the module: blocks, shapes and parameters")
    middle, x, ends = 200.0, 75.0, []

    def block(shape: tuple[int, ...], name: str, color: str) -> None:
        nonlocal x
        channels, height, width = shape
        tall, wide = 26 + 30 * (height.bit_length() - 6), 26 + channels / 8
        drawing.parts.append(
            f'<rect x="{x:g}" y="{middle - tall / 2:g}" width="{wide:g}" height="{tall:g}" rx="4" fill="{color}" stroke="{INK}"/>'
        )
        ends.append((x, x + wide))
        at = x + wide / 2 + 5
        drawing.parts.append(
            f'<text x="{at:g}" y="308" font-size="11" text-anchor="end" transform="rotate(-50 {at:g} 308)">'
            f'<tspan font-weight="bold">{escape(name)}</tspan> {channels}x{height}x{width}</text>'
        )
        x += wide + 14

    block((3, 1024, 2048), "image", GREY)
    for title, color, module, blocks in parts:
        start = x
        for child in blocks:
            name = type(child).__name__
            if name in ("Dropout", "ReLU"):
                continue
            block(tuple(shapes[child][1:]), {"ConvBN": "Conv2D", "Conv2d": "Conv2D 1x1"}.get(name, name), color)
        count = sum(parameter.numel() for parameter in module.parameters())
        center = (start + x - 14) / 2
        y = 22 if title == "feature fusion" else 52  # its neighbours' names need the room beside it
        drawing.text(center, y, title, 12, weight="bold")
        drawing.text(center, y + 15, f"{count:,} parameters", 11)
        if title == "learning to downsample":
            skip = ends[-1]
        if title == "feature fusion":
            fusion = ends[-1]
    block((19, 1024, 2048), "upsampled", GREY)
    for (_, right), (left, _) in itertools.pairwise(ends):
        drawing.arrow((right, middle), (left, middle))
    top = middle - 75
    at = (skip[0] + skip[1]) / 2, (fusion[0] + fusion[1]) / 2
    drawing.arrow((at[0], middle - 60), (at[0], top), (at[1], top), (at[1], middle - 60), dashed=True)
    drawing.text(sum(at) / 2, top - 6, "skip connection: 64 channels at 1/8", 12)
    return drawing


def walk() -> Drawing:
    """How data walks from disk to a record."""
    drawing = Drawing(1060, 250, "How data walks from the disk to a record")
    stations = (
        ("disk", ("PNG, JPEG,", "label files"), GREY),
        ("store", ("decoded once,", "uint8 rows"), SKY),
        ("crop", ("scale, window,", "colour, flip"), SKY),
        ("batch", ("uint8 [B, H, W, 3]", "and labels"), SKY),
        ("device", ("normalised", "once"), GRASS),
        ("network", ("logits at 1/8", "[B, C, H/8, W/8]"), GRASS),
    )
    x = 15
    for name, lines, color in stations:
        drawing.box(x, 30, 140, 80, (name, *lines), color)
        if x > 15:
            drawing.arrow((x - 35, 70), (x, 70))
        x += 175
    drawing.box(715, 155, 150, 70, ("fused loss", "training: gradient", "of the logits"), SAND)
    drawing.box(890, 155, 140, 70, ("fused labels", "uint8 [B, H, W]"), SAND)
    drawing.box(420, 155, 150, 70, ("record", "run.json, metrics.csv"), LILAC)
    drawing.arrow((925, 110), (790, 155))
    drawing.arrow((965, 110), (965, 155))
    drawing.box(590, 155, 100, 70, ("confusion", "matrix, int64"), ROSE)
    drawing.arrow((960, 225), (960, 240), (640, 240), (640, 225))
    drawing.arrow((590, 190), (570, 190))
    drawing.text(15, 150, "Each arrow is crossed once: nothing is decoded,", 12, "start")
    drawing.text(15, 167, "normalised or upsampled a second time, and the", 12, "start")
    drawing.text(15, 184, "full-size logits are never in memory.", 12, "start")
    return drawing


def run() -> Drawing:
    """The life of a run."""
    drawing = Drawing(980, 330, "The life of a run")
    drawing.box(20, 130, 150, 70, ("Run.create", "config checked,", "folder and lock made"), GREY)
    drawing.box(250, 130, 190, 70, ("running", "metrics.csv row by row,", "last.ckpt, best.ckpt"), GRASS)
    drawing.box(540, 130, 170, 70, ("finished", "run.json has best, last", "and test metrics"), SKY)
    drawing.box(790, 130, 170, 70, ("eval, predict, export,", "compare read the folder"), LILAC)
    drawing.box(250, 20, 190, 60, ("failed", "run.json has the error"), ROSE)
    drawing.box(110, 245, 200, 65, ("interrupted", "a signal: the step is saved,", "exit code 128 + signal"), SAND)
    drawing.box(380, 245, 200, 65, ("dead", "killed: the lock is free,", "last.ckpt is whole"), SAND)
    drawing.arrow((170, 165), (250, 165))
    drawing.arrow((440, 165), (540, 165))
    drawing.arrow((710, 165), (790, 165))
    drawing.arrow((345, 130), (345, 80))
    drawing.arrow((290, 200), (230, 245))
    drawing.arrow((400, 200), (450, 245))
    drawing.arrow((110, 275), (80, 275), (80, 225), (270, 225), (270, 200), dashed=True)
    drawing.arrow((580, 275), (620, 275), (620, 225), (425, 225), (425, 200), dashed=True)
    drawing.text(640, 262, "resume=RUN_DIR, or -m once more:", 12, "start")
    drawing.text(640, 279, "the next step, with the same weights, momentum,", 12, "start")
    drawing.text(640, 296, "schedule, frames and rows as if nothing had stopped it", 12, "start")
    return drawing


def fused() -> Drawing:
    """The fused step beside the usual one."""
    drawing = Drawing(1000, 360, "From coarse logits to labels: the usual way, and fused")
    drawing.text(20, 28, "The usual way: every upsampled logit is written to memory and read back", 14, "start", "bold")
    drawing.box(20, 50, 150, 70, ("logits at 1/8", "19 x 128 x 256", "2.5 MB"), SKY)
    drawing.box(290, 42, 330, 86, ("all logits, upsampled", "19 x 1024 x 2048 float32", "159 MB"), ROSE)
    drawing.box(760, 50, 150, 70, ("labels", "1024 x 2048 uint8", "2.1 MB"), GRASS)
    drawing.arrow((170, 85), (290, 85))
    drawing.text(230, 76, "interpolate", 12)
    drawing.arrow((620, 85), (760, 85))
    drawing.text(690, 76, "argmax", 12)
    drawing.text(
        20, 185, "Fused: a strip of 128 columns at a time, in the processor's first cache", 14, "start", "bold"
    )
    drawing.box(20, 215, 150, 100, ("two rows of logits", "19 x 17 each", "of the strip"), SKY)
    drawing.box(
        290, 215, 160, 100, ("both rows, widened", "2 x 19 x 128 float32", "19 kB: they stay", "in the cache"), SAND
    )
    drawing.box(
        570,
        215,
        180,
        100,
        ("each row between them", "class by class: the", "class that leads so far", "stays in registers"),
        SAND,
    )
    drawing.box(840, 240, 140, 50, ("labels", "128 uint8 of a row"), GRASS)
    drawing.arrow((170, 265), (290, 265))
    drawing.text(230, 256, "8 columns each", 12)
    drawing.arrow((450, 265), (570, 265))
    drawing.text(510, 256, "8 rows", 12)
    drawing.arrow((750, 265), (840, 265))
    drawing.text(20, 345, "The arithmetic is the same, so the labels are too. The loss is fused alike: its gradient goes straight "
                 "into the coarse logits.", 12, "start")  # fmt: skip
    return drawing


def floors() -> Drawing:
    """The floors of the package: imports go down only."""
    drawing = Drawing(860, 390, "The floors of src/fastscnn: imports go down only")
    rows = (
        (("src/*.py: ten-line commands", GREY),),
        (("cli: from a command line to a call", LILAC),),
        (("training", ROSE), ("predict", ROSE), ("export", ROSE), ("benchmark", ROSE), ("reports", ROSE)),
        (("inference: one loader, one folded form, Segmenter", SAND),),
        (("runs", GRASS), ("data", GRASS), ("models", GRASS), ("kernels", GRASS), ("streets", GRASS)),
        (("utils: files, images, errors, progress, system", SKY),),
    )
    for number, row in enumerate(rows):
        y, width = 15 + 62 * number, 700 / len(row)
        for place, (text, color) in enumerate(row):
            drawing.box(20 + place * width, y, width - (8 if len(row) > 1 else 0), 46, (text,), color)
    drawing.arrow((770, 20), (770, 365))
    drawing.text(785, 190, "imports", 13, "start")
    return drawing


DRAWINGS = {"network": network, "walk": walk, "run": run, "fused": fused, "floors": floors}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            (FOLDER / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
