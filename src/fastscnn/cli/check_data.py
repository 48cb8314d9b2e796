"""Look at every file of a data set: `python src/check_data.py` and `fastscnn-check-data`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_data(config: "DictConfig") -> None:
    """Print a table and the findings, and write them as JSON; exits with 1 where something is wrong."""
    from omegaconf import OmegaConf
    from rich.console import Console

    from fastscnn.data.check.check import check
    from fastscnn.data.check.report import record, table
    from fastscnn.data.datasets.folder import check_command, classes_file
    from fastscnn.utils.files import check_writable_file, plain_json, write_json
    from fastscnn.utils.text import one_line
    from fastscnn.utils.values import check_switch

    settings: Any = OmegaConf.to_container(config, resolve=True)
    check_switch("write", settings["write"])
    output = None if settings["output"] == "-" else Path(settings["output"]).expanduser()
    if output:
        check_writable_file(output, "output")
    report = check(settings["data"], write=settings["write"])
    if output is None:
        print(json.dumps(plain_json(record(report)), indent=2))
    else:
        Console().print(table(report))
        if report.proposed:
            file = classes_file(report.root, settings["data"])
            print(f"{'Written' if settings['write'] else 'Proposed'}: {file}\n{report.proposed}")
        write_json(output, record(report))
        print(f"All of it: {output}")
    for finding in report.findings:
        print(one_line(f"{finding.kind}: {finding}"), file=sys.stderr)
    if report.findings:
        sys.exit(1)
    print("Nothing wrong was found.", file=sys.stderr if output is None else sys.stdout)
    if report.dataset == "folder" and output is not None:
        print(f"Train: {check_command(settings['data'], 'train')}")


def main() -> None:
    """The command, as `src/check_data.py` and `fastscnn-check-data` call it."""
    start("check_data", check_data)
