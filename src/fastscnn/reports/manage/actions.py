"""The actions of `src/runs.py`: a table of runs, one run in full, notes and tags, and freeing of checkpoints."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from fastscnn.reports.comparison.compare import filtered
from fastscnn.reports.comparison.records import Run, read_all, run_named
from fastscnn.reports.manage.free import freed, to_free
from fastscnn.runs.record import RECORD
from fastscnn.runs.record_file import read_record_file
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import plain_json, write_json
from fastscnn.utils.text import duration, plural
from fastscnn.utils.values import check_switch


def act(config: DictConfig) -> None:
    """Do the action of a composed `runs` config.

    Raises:
        RequestError: There is no such action, no such run, or a setting that the action needs is missing.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    actions: dict[str, Callable[[Sequence[Run], Any], None]] = {
        "list": list_runs,
        "show": show,
        "gc": collect,
        "annotate": annotate,
        "tag": tag,
    }
    if plain["action"] not in actions:
        raise RequestError(f"action={plain['action']}.", key="action", fix=f"Set one of {', '.join(actions)}.")
    folders = [Path(folder).expanduser() for folder in listed(plain["runs"])]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise RequestError(f"runs={missing[0]} is not a folder.", key="runs", fix="Set runs=DIR, such as outputs.")
    found, _, warnings = read_all(folders)
    if not found:
        where = ", ".join(map(str, folders))
        raise RequestError(f"runs={where} holds no run.", key="runs", fix="Set runs=DIR, such as outputs.")
    plain["all"], plain["folders"] = found, folders
    chosen = filtered(found, plain["filter"])
    actions[plain["action"]](named(chosen, plain["id"]), plain)
    for warning in warnings:
        print(f"warning: {warning}")


def named(runs: Sequence[Run], wanted: Any) -> list[Run]:
    """The runs with these ids, first letters of ids, or folders; all where none is named.

    Raises:
        RequestError: One names no run, or several.
    """
    if wanted is None:
        return list(runs)
    return [run_named(runs, name, "id", "Give an id or a folder; action=list shows them.") for name in listed(wanted)]


def list_runs(runs: Sequence[Run], settings: Any) -> None:
    """Print a row for each run, the newest last."""
    table = Table(title=plural(len(runs), "run"), title_justify="left")
    for name in ("id", "name", "status", "age", "size", "best %", "study", "tags"):
        table.add_column(name, justify="right" if name in ("age", "size", "best %") else "left", overflow="fold")
    for run in runs:
        best = run.metric(settings["metric"])
        cells = [str(run.record["id"]), str(run.record["name"]), str(run.record["status"]), age(run)]
        cells += [megabytes(size_of(run.folder)), "" if best is None else f"{100 * best:.2f}"]
        table.add_row(*cells, " ".join(run.studies), " ".join(run.record.get("tags") or ()))
    Console().print(table)


def show(runs: Sequence[Run], settings: Any) -> None:
    """Print the record of one run, and what lies in its folder."""
    run = only(runs, settings)
    print(json.dumps(plain_json(dict(run.record)), indent=2))
    print(f"{run.folder}: {megabytes(size_of(run.folder))}")
    for path in sorted(run.folder.rglob("*")):
        if path.is_file() and ".hydra" not in path.parts and "wandb" not in path.parts and "images" not in path.parts:
            print(f"  {path.relative_to(run.folder)}  {megabytes(path.stat().st_size)}")


def collect(runs: Sequence[Run], settings: Any) -> None:
    """Print the checkpoints that can go and, with `delete=true`, delete them."""
    check_switch("delete", settings["delete"])
    by_name = settings["id"] is not None
    files, left = to_free(runs, settings["all"], settings["folders"], by_name=by_name)
    for run, reason, path in files:
        print(f"{run.record['id']} {reason}: {path} ({megabytes(path.stat().st_size)})")
    for run, reason in left:
        print(f"{run.record['id']} is left alone: {reason}")
    total = sum(path.stat().st_size for _, _, path in files)
    if not files:
        print("No checkpoint can go.")
    elif not settings["delete"]:
        print(f"{plural(len(files), 'file')}, {megabytes(total)}; nothing is deleted: delete=true deletes them.")
    else:
        freed(files)
        print(f"{plural(len(files), 'file')}, {megabytes(total)}: deleted.")


def annotate(runs: Sequence[Run], settings: Any) -> None:
    """Write a note into the record of one run."""
    run = only(runs, settings)
    if settings["note"] is None:
        raise RequestError("note is not set.", key="note", fix='Set note="…".')
    change(run, note=str(settings["note"]) or None)


def tag(runs: Sequence[Run], settings: Any) -> None:
    """Add tags to the records of runs that are named or filtered, and take away those with a minus."""
    if settings["tags"] is None:
        raise RequestError("tags is not set.", key="tags", fix="Set tags=[WORD].")
    if settings["id"] is None and not settings["filter"]:
        raise RequestError(
            "Every run would be tagged.", key="id", fix="Name runs with id=, or choose them with filter=."
        )
    words = [str(word) for word in listed(settings["tags"])]
    for run in runs:
        tags = [*(run.record.get("tags") or ()), *(word for word in words if not word.startswith("-"))]
        away = {word[1:] for word in words if word.startswith("-")}
        change(run, tags=[word for word in dict.fromkeys(tags) if word not in away])


def change(run: Run, **changes: Any) -> None:
    """Change keys of a record that belong to people; a run that is going on takes them over when it next writes."""
    file = run.folder / RECORD
    write_json(file, read_record_file(file) | changes)
    print(f"{run.record['id']}: {', '.join(f'{key}: {value}' for key, value in changes.items())}")


def only(runs: Sequence[Run], settings: Any) -> Run:
    """The one run that is named.

    Raises:
        RequestError: It is none, or several.
    """
    if len(runs) != 1:
        problem = f"action={settings['action']} is for one run, and {len(runs)} are chosen."
        raise RequestError(problem, key="id", fix="Set id=ID; action=list shows the ids.")
    return runs[0]


def age(run: Run) -> str:
    """Time since the run began; empty if unknown."""
    started = run.record.get("started")
    return duration((datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()) if started else ""


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def megabytes(size: float) -> str:
    """`12.3 MB`."""
    return f"{size / 1e6:,.1f} MB"


def listed(value: Any) -> list[Any]:
    """A list of one where it is none."""
    return list(value) if isinstance(value, list | tuple) else [value]
