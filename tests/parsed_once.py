"""Composing many configs in one process: each file and each expression is parsed once. Half of the time goes there."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import grammar_parser

Load = Callable[[ConfigSource, str], ConfigResult]
PARSES = ("omegaconf.base.parse", "omegaconf._utils.parse")
"""Where OmegaConf has its parser of expressions such as `${a.b}`; nobody changes the trees that it gives."""


@contextlib.contextmanager
def each_file_parsed_once() -> Iterator[None]:
    """While this is entered, Hydra and OmegaConf parse no file that has not changed, and no expression, twice."""
    Plugins.instance()
    parsed: dict[tuple[object, ...], ConfigResult] = {}

    def once(load: Load) -> Load:
        def loaded(source: ConfigSource, config_path: str) -> ConfigResult:
            key = source.full_path(), config_path, version(source, config_path)  # each composing has sources of its own
            if key not in parsed:
                parsed[key] = load(source, config_path)
            return copy.deepcopy(parsed[key])

        return loaded

    with contextlib.ExitStack() as patches:
        for scheme in ("file", "pkg"):
            kind = SourcesRegistry.instance().resolve(scheme)  # Hydra has these classes from a second import
            patches.enter_context(mock.patch.object(kind, "load_config", once(kind.load_config)))
        expression = functools.lru_cache(maxsize=10_000)(grammar_parser.parse)
        for name in PARSES:
            patches.enter_context(mock.patch(name, expression))
        yield


def version(source: ConfigSource, config_path: str) -> tuple[int, ...]:
    """What another content of a file changes; nothing for those of a package."""
    if source.scheme() != "file":
        return ()
    with contextlib.suppress(OSError):
        stat = Path(source.path, config_path.removesuffix(".yaml") + ".yaml").stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
    return ()
