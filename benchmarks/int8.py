"""What int8 costs a trained network: python benchmarks/int8.py CHECKPOINT DATA_ROOT NAME [FRAMES]

Exports it in float32 and in int8 for ONNX Runtime and OpenVINO, calibrated on frames of the training split, and judges
all four on the validation and the test split. Writes results/NAME.json.
"""

import sys
import tempfile
from pathlib import Path

from harness import RESULTS, save

from fastscnn.data.datamodules.build import build_data
from fastscnn.export.export import export
from fastscnn.export.quantize import Calibration
from fastscnn.export.verify import labels_by
from fastscnn.inference.export_graph import ExportGraph
from fastscnn.inference.files.external import ExternalRun
from fastscnn.inference.files.interface import Interface
from fastscnn.inference.loader import load_trained
from fastscnn.training.evaluate_labels import evaluate_labels, some_images

SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


def main(checkpoint: str, root: str, name: str, frames: int) -> None:
    trained = load_trained(checkpoint)
    data = build_data({**trained.config["data"], "root": root})
    data.prepare_data()
    calibration = Calibration(
        some_images(data, "train", frames), lambda labels: evaluate_labels(labels, data, "val").miou, max_drop=100.0
    )
    graph = ExportGraph(trained)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime, suffix in SUFFIX.items():
            for precision in ("float32", "int8"):
                file = Path(folder, precision + suffix)
                done = export(trained, file, format=runtime, calibration=calibration if precision == "int8" else None)
                row = {"runtime": runtime, "precision": precision}
                with ExternalRun(file, runtime) as run:
                    labels = labels_by(run, Interface.of(graph, trained))
                    row |= {
                        f"{split}/miou": 100 * evaluate_labels(labels, data, split).miou for split in ("val", "test")
                    }
                if done.quantized:
                    row["float32_parts"] = list(done.quantized.float32_parts)
                rows.append(row)
                print(row, flush=True)
    result = {
        "what": f"mIoU in percent of one trained network on {data.dataset}, float32 and int8",
        "calibration_frames": frames,
        "rows": rows,
        "drop": {
            runtime: {
                split: next(row[f"{split}/miou"] for row in rows if row["runtime"] == runtime)
                - [row[f"{split}/miou"] for row in rows if row["runtime"] == runtime][-1]
                for split in ("val", "test")
            }
            for runtime in SUFFIX
        },
    }
    save(RESULTS / f"{name}.json", result)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 300)
