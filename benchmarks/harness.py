"""What the benchmarks share: interleaved rounds, variants in child processes, medians, and the file of results."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from machine import measured

from fastscnn.runs.record import RECORD, read_record
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
Variant = TypeVar("Variant")


def interleaved(variants: Iterable[Variant], rounds: int) -> Iterator[tuple[int, Variant]]:
    """Each variant once a round, every second round backwards, so that a slow minute meets all of them."""
    variants = list(variants)
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else reversed(variants):
            yield number, variant


def timed(run: Callable[[], object], repeats: int = 1) -> list[float]:
    """Seconds of each of some calls."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]], scale: float = 1.0) -> dict[str, float]:
    """Median of each variant."""
    return {variant: statistics.median(values) * scale for variant, values in seconds.items()}


def ranges(seconds: Mapping[str, Sequence[float]], scale: float = 1.0) -> dict[str, list[float]]:
    """Lowest and highest value of each variant."""
    return {variant: [min(values) * scale, max(values) * scale] for variant, values in seconds.items()}


def child(script: str, *arguments: object) -> "subprocess.Popen[str]":
    """A script in a process of its own: for settings, such as the allocator's, that a process cannot take back."""
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve(measure: Callable[[], Any]) -> None:
    """In a child: measure once for each line of stdin, and answer with the result as a line of JSON."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def served_rounds(children: Mapping[str, "subprocess.Popen[str]"], rounds: int) -> Iterator[tuple[str, Any]]:
    """Variant and answer of children that `serve`, in interleaved rounds; ends the children."""
    for process in children.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for _, variant in interleaved(children, rounds):
        process = children[variant]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("measure\n")
        process.stdin.flush()
        yield variant, json.loads(process.stdout.readline())
    for process in children.values():
        process.communicate()


def answer(main: Callable[..., object], *arguments: object) -> None:
    """Run a script's `main`; a request that cannot be carried out is one sentence on stderr and exit code 2."""
    try:
        main(*arguments)
    except RequestError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def finished_run(folder: Path) -> dict[str, Any]:
    """The record of a finished run.

    Raises:
        RequestError: The folder holds no run, or one that has not finished.
    """
    if not (folder / RECORD).is_file():
        raise RequestError(f"{folder} holds no run ({RECORD}).", fix="Name the folder of a finished run.")
    record = read_record(folder)
    if record["status"] != "finished":
        raise RequestError(f"{folder} is {record['status']}, not finished.", fix=f"Continue it with resume={folder}.")
    return record


def save(output: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write a result with the machine, the command and the versions it was measured with; returns what was written."""
    complete = {**result, **measured()}
    write_json(output, complete)
    return complete
