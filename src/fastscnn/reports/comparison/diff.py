"""What differs between two runs: config, code, packages, data, machine and metrics; `compare.py diff=[RUN,RUN]`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fastscnn.reports.comparison.records import Run, run_named
from fastscnn.runs.provenance import code_of, data_of, differing, machine_of, read_packages
from fastscnn.runs.run_settings import flatten, read_run_config, to_plain
from fastscnn.utils.errors import RequestError

OF_THE_CALL = ("paths.", "resume", "rerun", "replay")


def run_folders(wanted: Any) -> list[Path]:
    """The folders that `diff` names; a run's own may lie anywhere."""
    names = wanted if isinstance(wanted, list | tuple) else []
    return [folder for name in names if (folder := Path(str(name)).expanduser()).is_dir()]


def two_runs(runs: Sequence[Run], wanted: Any) -> tuple[Run, Run]:
    """The two runs that `diff` names by ids, the first letters of ids, or folders.

    Raises:
        RequestError: It does not name two runs.
    """
    names = wanted if isinstance(wanted, list | tuple) else []
    fix = "Write diff=[RUN,RUN] with two runs' folders, or ids of runs below runs=DIR; python src/runs.py lists them."
    if len(names) != 2:
        raise RequestError(f"diff={wanted} is not two runs.", key="diff", fix=fix)
    first, second = (run_named(runs, name, "diff", fix) for name in names)
    return first, second


def differences(first: Run, second: Run) -> Iterator[tuple[str, str, str, str]]:
    """Part, key and both values of everything that differs; `-` where a run has none."""
    yield from _rows("config", _config(first), _config(second))
    for part, of in (("code", code_of), ("data", data_of), ("machine", machine_of)):
        yield from _rows(part, of(first.record), of(second.record))
    packages = [read_packages(run.folder, run.record) for run in (first, second)]
    yield from _rows("packages", *packages)
    for which in ("best", "last"):
        yield from _rows(f"{which} metrics", _metrics(first, which), _metrics(second, which))


def print_diff(runs: tuple[Run, Run]) -> None:
    """Print the table; a sentence says where nothing differs."""
    first, second = runs
    rows = list(differences(first, second))
    table = Table(title=f"{first.record['id']} and {second.record['id']}: what differs", title_justify="left")
    for name in ("", "key", str(first.record["id"]), str(second.record["id"])):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if rows:
        Console().print(table)
    else:
        print(f"{first.record['id']} and {second.record['id']} differ in nothing that their records hold.")


def _rows(part: str, first: dict[str, str], second: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    for key, (before, now) in differing(first, second).items():
        yield part, key, before, now


def _config(run: Run) -> dict[str, str]:
    """The whole config of a run; the settings of its record where its folder has none."""
    try:
        settings = flatten(to_plain(read_run_config(run.folder)))
    except RequestError:
        settings = dict(run.record.get("settings") or run.record.get("overrides") or {}) | {"seed": run.record["seed"]}
    settings |= run.record.get("settled") or {}
    return {key: str(value) for key, value in settings.items() if not key.startswith(OF_THE_CALL)}


def _metrics(run: Run, which: str) -> dict[str, str]:
    found = run.record["metrics"].get(which, {})
    return {name: f"{value:.6g}" for name, value in found.items() if isinstance(value, int | float)}
