"""Table 6 on this machine, Fast-SCNN beside its peers: `python src/benchmark.py` and `fastscnn-benchmark`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def benchmark(config: "DictConfig") -> None:
    """Measure, and write the numbers, the tables and the plot."""
    from omegaconf import OmegaConf

    from fastscnn.benchmark.benchmark import measure
    from fastscnn.reports.speed import markdown, plot
    from fastscnn.runs.process import describe_process
    from fastscnn.utils.files import check_writable_file, replaced, write_json, write_text
    from fastscnn.utils.machine import describe_machine

    settings: Any = OmegaConf.to_container(config, resolve=True)
    output = Path(settings["output"]).expanduser()
    written = [output, output.with_suffix(".md"), output.with_suffix(".png")]
    for path in written:
        check_writable_file(path, "output")
    machine = describe_machine()
    frame = {
        "title": "Table 6: runtime",
        "subtitle": f"{machine['processor']}, {machine['cores']} cores; medians",
        "settings": settings,
        "machine": machine,
        **describe_process(),
    }
    result = frame | measure(settings, save=lambda measured: write_json(output, frame | measured))
    write_text(written[1], markdown(result))
    try:
        with replaced(written[2]) as target:
            plot(result, target)
    except ImportError:
        written.pop()
        print("No plot: pip install matplotlib.")
    print(f"Written: {', '.join(map(str, written))}")


def main() -> None:
    """The command, as `src/benchmark.py` and `fastscnn-benchmark` call it."""
    start("benchmark", benchmark)
