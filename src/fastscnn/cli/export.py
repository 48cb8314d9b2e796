"""Export a trained network for another runtime: `python src/export.py` and `fastscnn-export`."""

from typing import TYPE_CHECKING, Any

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(config: "DictConfig") -> None:
    """Write one file, try it in its runtime, and say what it is."""
    from omegaconf import OmegaConf

    from fastscnn.export.export import check_request, export, recorded_metrics, usage
    from fastscnn.inference.loader import load_trained

    settings: Any = OmegaConf.to_container(config, resolve=True)
    names = ("format", "output", "input", "write", "overwrite")
    chosen = {name: settings[name] for name in names}
    check_request(**chosen, precision=settings["precision"])
    skip, weights = settings.get("model", {}).get("skip"), settings["weights"]
    trained = load_trained(settings["checkpoint"], skip=skip, weights=weights, trust=settings["trust"])
    done = export(
        trained,
        **chosen,
        precision=settings["precision"],
        calibration=None if settings["precision"] == "float32" else calibration(settings, trained),
        metrics=recorded_metrics(settings["checkpoint"]),
    )
    if done.comparison:
        stage = f", before {settings['precision']}" if done.quantized else ""
        print(f"Compared with the network at six sizes{stage}: {done.comparison}")
    if done.quantized:
        print(f"{settings['precision']}: {done.quantized}")
    for file in done.files:
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    print(usage(done.files[0], settings["format"], settings["input"], settings["write"]))


def calibration(settings: Any, trained: Any) -> Any:
    """The frames that int8 is calibrated on, and the evaluation of a lower precision."""
    from fastscnn.data.datamodules.build import build_data
    from fastscnn.export.quantize import Calibration
    from fastscnn.training.evaluate_labels import evaluate_labels, some_images
    from fastscnn.training.evaluated_data import data_config
    from fastscnn.utils.errors import RequestError

    data = build_data(data_config(settings["data"], trained.config["data"], settings["checkpoint"]))
    if data.classes.names != trained.classes.names:
        raise RequestError(
            f"checkpoint={settings['checkpoint']} predicts the classes of {trained.classes.name}, and "
            f"data={data.dataset} has those of {data.classes.name}.",
            key="data",
            fix="Leave data= out.",
        )
    data.prepare_data()
    chosen = settings["calibration"]
    return Calibration(
        some_images(data, chosen["split"], chosen["frames"]) if settings["precision"] == "int8" else (),
        lambda labels: evaluate_labels(labels, data, settings["split"]).miou,
        settings["max_miou_drop"],
    )


def main() -> None:
    """The command, as `src/export.py` and `fastscnn-export` call it."""
    start("export", export)
