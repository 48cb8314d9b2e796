"""The numbers that the paper publishes (Poudel, Liwicki, Cipolla 2019), as data. IoU in percent, Cityscapes."""

from typing import NamedTuple


class Model(NamedTuple):
    """A row of Table 4: class and category mIoU on the test set, millions of parameters; None where not given.

    `option` is the choice of `model` that trains it here; None where there is none.
    """

    name: str
    class_miou: float
    category_miou: float | None
    parameters: float | None
    option: str | None = None


class Speed(NamedTuple):
    """A row of Table 7: class mIoU on the test set and frames a second on a Titan Xp."""

    resolution: str
    size: str
    class_miou: float
    fps: float


TABLE_4 = (
    Model("DeepLab-v2", 70.4, 86.4, 44.0, "deeplab"),
    Model("PSPNet", 78.4, 90.6, 65.7, "pspnet"),
    Model("SegNet", 56.1, 79.8, 29.46, "segnet"),
    Model("ENet", 58.3, 80.4, 0.37, "enet"),
    Model("ICNet", 69.5, None, 6.68, "icnet"),
    Model("ERFNet", 68.0, 86.5, 2.1, "erfnet"),
    Model("BiSeNet", 71.4, None, 5.8, "bisenet"),
    Model("GUN", 70.4, None, None),
    Model("ContextNet", 66.1, 82.7, 0.85, "contextnet"),
    Model("Fast-SCNN", 68.0, 84.7, 1.11, "fast_scnn"),
)

_CLASSES = (
    "road sidewalk building wall fence pole|traffic light|traffic sign|vegetation terrain sky person rider car truck "
    "bus train motorcycle bicycle"
)
CLASSES = tuple(name for part in _CLASSES.split("|") for name in ([part] if "traffic" in part else part.split()))
TABLE_5 = {
    name: dict(zip(CLASSES, map(float, row.split()), strict=True))
    for name, row in {
        "ContextNet": "97.6 79.2 88.7 43.8 42.8 37.9 52.0 58.8 90.0 66.8 91.9 72.1 53.9 91.6 54.0 66.4 58.3 48.9 61.0",
        "Fast-SCNN": "97.9 81.5 89.6 46.3 48.6 48.3 53.0 60.5 90.7 67.1 94.3 73.9 54.5 92.9 57.4 65.4 58.2 50.0 61.2",
    }.items()
}
"""Class IoU on the test set."""

TABLE_6 = {
    "Titan X (Maxwell)": {
        "SegNet": (1.6, None, None),
        "ENet": (20.4, 76.9, 142.9),
        "ICNet": (30.3, None, None),
        "ERFNet": (11.2, 41.7, 125.0),
        "ContextNet": (41.9, 136.2, 299.5),
        "Fast-SCNN prob": (62.1, 197.6, 372.8),
        "Fast-SCNN cls": (75.3, 218.8, 403.1),
    },
    "Titan Xp (Pascal)": {
        "BiSeNet": (57.3, None, None),
        "GUN": (33.3, None, None),
        "Fast-SCNN prob": (106.2, 266.3, 432.9),
        "Fast-SCNN cls": (123.5, 285.8, 485.4),
    },
}
"""Table 6: graphics card to model to frames a second at 1024x2048, 512x1024 and 256x512. `prob` ends with the softmax,
`cls` with the labels."""

TABLE_7 = (
    Speed("full", "1024x2048", 68.0, 123.5),
    Speed("half", "512x1024", 62.8, 285.8),
    Speed("quarter", "256x512", 51.9, 485.4),
)

TABLE_8 = {
    ("fine", "none"): ("Fast-SCNN", 68.62),
    ("fine", "imagenet"): ("Fast-SCNN + ImageNet", 69.15),
    ("fine_coarse", "none"): ("Fast-SCNN + Coarse", 69.22),
    ("fine_coarse", "imagenet"): ("Fast-SCNN + Coarse + ImageNet", 69.19),
}
"""(data, pretrain) to the row's name and class mIoU on the validation set."""

SKIP = {"keep": 69.22, "zero": 64.30}
"""Section 3.2: class mIoU on the validation set of one trained network, with and without the skip connection."""

IMAGENET = {"top1": 60.71, "top5": 83.0}
"""Section 3.4: accuracy of the pre-training on the ImageNet validation set."""
