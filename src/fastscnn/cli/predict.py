"""Label images and videos with a trained network: `python src/predict.py` and `fastscnn-predict`."""

import sys
from typing import TYPE_CHECKING, Any

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def predict(config: "DictConfig") -> None:
    """Carry out one prediction; exits with 1 where an input could not be predicted."""
    from omegaconf import OmegaConf

    from fastscnn.utils.errors import RequestError
    from fastscnn.utils.text import one_line

    settings: Any = OmegaConf.to_container(config, resolve=True)
    if settings["format"] == "cityscapes":
        if settings["checkpoint"] is None:
            raise RequestError(
                "checkpoint is not set, and no shipped network was trained on photographs for Cityscapes' classes.",
                key="checkpoint",
                fix="Set checkpoint=FILE.",
            )
        if settings["unknown_below"] is not None:
            raise RequestError(
                "unknown_below is not for format=cityscapes: the server counts a pixel without a class as wrong.",
                key="unknown_below",
                fix="Leave it out.",
            )
        from fastscnn.predict.cityscapes_archive import predict_archive

        outcome, archive = predict_archive(settings)
        if archive is not None:
            print(f"For the benchmark server, checked: {archive}")
    elif settings["format"] is not None:
        raise RequestError(
            f"format={settings['format']} is not for predict.py, which has format=cityscapes.",
            key="format",
            fix="Leave format out, or use export.py.",
        )
    elif settings["input"] is None:
        raise RequestError(
            "input is not set.", key="input", fix="Set input=PATH, an image, a folder, a pattern in quotes or a video."
        )
    else:
        from fastscnn.predict.predict import predict

        outcome = predict(settings)
        print(f"The predictions: {settings['output']}")
    for path, reason in outcome.failed.items():
        print(one_line(f"failed: {path}: {reason}"), file=sys.stderr)
    if outcome.stopped:
        print(
            f"stopped: {outcome.stopped}; {outcome.done + outcome.there} are done, and the same command goes on once "
            f"there is room{', without overwrite=true' if settings['overwrite'] else ''}.",
            file=sys.stderr,
        )
    elif outcome.failed:
        print(f"{len(outcome.failed)} failed, the other {outcome.done + outcome.there} are done.", file=sys.stderr)
    if outcome.failed:
        sys.exit(1)


def main() -> None:
    """The command, as `src/predict.py` and `fastscnn-predict` call it."""
    start("predict", predict)
