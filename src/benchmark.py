"""Table 6 on this machine, the peers beside us: `python src/benchmark.py --help`."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fastscnn.runs.launch import launch


def benchmark(config: DictConfig) -> None:
    """Measure, and write the numbers, the tables and the plot."""
    from fastscnn.inference.benchmark import measure
    from fastscnn.reports.speed import markdown, plot
    from fastscnn.runs.machine import describe_machine
    from fastscnn.runs.record import describe_process, write_json

    settings: Any = OmegaConf.to_container(config, resolve=True)
    output = Path(settings["output"])
    machine = describe_machine()
    output.parent.mkdir(parents=True, exist_ok=True)
    frame = {
        "title": "Table 6: runtime",
        "subtitle": f"{machine['processor']}, {machine['cores']} cores; medians",
        "settings": settings,
        "machine": machine,
        **describe_process(),
    }
    result = frame | measure(settings, keep=lambda measured: write_json(output, frame | measured))
    output.with_suffix(".md").write_text(markdown(result))
    written = [output, output.with_suffix(".md")]
    try:
        plot(result, output.with_suffix(".png"))
        written.append(output.with_suffix(".png"))
    except ImportError:
        print("No plot: pip install matplotlib.")
    print(f"Written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    launch("benchmark", benchmark)
