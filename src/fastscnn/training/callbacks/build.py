"""The callbacks of the `callbacks` group, beside those that every run has."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object


def build_callbacks(settings: Mapping[str, Any] | None, *, validates: bool = True) -> list[pl.Callback]:
    """Build the callbacks of a config, in its order; a name whose value is null is left out.

    Args:
        settings: Name to `_target_` and arguments.
        validates: Whether the run has a validation.

    Raises:
        RequestError: A class cannot be imported, is no callback, does not take an argument, or waits for a validation
            that the run does not have.
    """
    built = []
    for key, node in _nodes(settings):
        check_arguments(node, key, named_object(node, key))
        callback = build(node, key)
        if not isinstance(callback, pl.Callback):
            raise RequestError(
                f"{key}.{TARGET}={node[TARGET]} is no pytorch_lightning.Callback.",
                key=f"{key}.{TARGET}",
                fix=f"Name a class that is one, or drop it: '~{key}'.",
            )
        monitor = getattr(callback, "monitor", None)
        if not validates and isinstance(monitor, str) and monitor.startswith("val/"):
            raise RequestError(
                f"{key} waits for {monitor}, and val is trained on (data.train_splits), so nothing is validated.",
                key=key,
                fix=f"Drop it: '~{key}', or validate on a drive with data.held_out=NAME.",
            )
        built.append(callback)
    return built


def check_monitors(settings: Mapping[str, Any] | None, callbacks: Sequence[pl.Callback], known: Sequence[str]) -> None:
    """Check that what callbacks wait for is among the metrics of the validation; Lightning would say so after an epoch.

    Args:
        settings: As `build_callbacks` takes them.
        callbacks: What that built.
        known: Names of the metrics.

    Raises:
        RequestError: It is not; names the nearest.
    """
    for (key, _), callback in zip(_nodes(settings), callbacks, strict=False):
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("val/") and monitor not in known:
            near = difflib.get_close_matches(monitor, known, n=1, cutoff=0.0)[0]
            raise RequestError(
                f"{key} waits for {monitor}, which is not among the metrics of this run.",
                key=f"{key}.monitor",
                fix=f"Set {key}.monitor={near}.",
            )


def _nodes(settings: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    nodes = []
    for name, node in (settings or {}).items():
        if node is not None and not isinstance(node, Mapping):
            raise RequestError(
                f"callbacks.{name}={node} is no callback.",
                key=f"callbacks.{name}",
                fix="Choose options, as in callbacks=[default,ema].",
            )
        if node is not None:
            nodes.append((f"callbacks.{name}", node))
    return nodes
