"""Composing many configs in one process: each file and each expression is parsed once, and what a selection of files
makes together is composed once. More than half of the time goes there.
"""

import contextlib
import functools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from unittest import mock

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, grammar_parser

Load = Callable[[ConfigSource, str], ConfigResult]
Compose = Callable[[ConfigLoaderImpl, list[ResultDefault], IConfigRepository], DictConfig]
PARSES = ("omegaconf.base.parse", "omegaconf._utils.parse")
"""Where OmegaConf has its parser of expressions such as `${a.b}`; nobody changes the trees that it gives."""


@contextlib.contextmanager
def each_file_parsed_once() -> Iterator[None]:
    """While this is entered, Hydra and OmegaConf parse no file that has not changed, and no expression, twice.

    The values of the command line are set anew each time, in a copy.
    """
    Plugins.instance()
    parsed: dict[tuple[object, ...], bytes] = {}  # a copy by pickling takes a third of one by `copy.deepcopy`

    def once(load: Load) -> Load:
        def loaded(source: ConfigSource, config_path: str) -> ConfigResult:
            key = source.full_path(), config_path, version(source, config_path)  # each composing has sources of its own
            if key not in parsed:
                parsed[key] = pickle.dumps(load(source, config_path))
            result: ConfigResult = pickle.loads(parsed[key])
            return result

        return loaded

    with contextlib.ExitStack() as patches:
        for scheme in ("file", "pkg"):
            kind = SourcesRegistry.instance().resolve(scheme)  # Hydra has these classes from a second import
            patches.enter_context(mock.patch.object(kind, "load_config", once(kind.load_config)))
        composing = composed_once(ConfigLoaderImpl._compose_config_from_defaults_list)
        patches.enter_context(
            mock.patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", composing),
        )
        patches.enter_context(mock.patch.object(defaults_list, "_create_interpolation_map", choices_where_needed))
        expression = functools.lru_cache(maxsize=10_000)(grammar_parser.parse)
        for name in PARSES:
            patches.enter_context(mock.patch(name, expression))
        yield


def composed_once(compose: Compose) -> Compose:
    """A composing that copies what it has made of the same files."""
    made: dict[tuple[object, ...], bytes] = {}

    def composed(loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        parts = tuple((*astuple(part), *versions(repo, part.config_path)) for part in defaults)
        key = parts, tuple(source.full_path() for source in repo.get_sources())
        if key not in made:
            made[key] = pickle.dumps(compose(loader, defaults, repo))
        config: DictConfig = pickle.loads(made[key])
        return config

    return composed


def versions(repo: IConfigRepository, config_path: str | None) -> Iterator[tuple[int, ...]]:
    """The `version` of a config in each place where Hydra looks for it."""
    return (version(source, config_path or "") for source in repo.get_sources())


CHOICES = defaults_list._create_interpolation_map


def choices_where_needed(overrides: object, defaults: list[InputDefault], self_added: bool) -> DictConfig:
    """The choices that a defaults list may refer to; Hydra makes them for each list, also where none does."""
    needed = any(default.is_interpolation() for default in defaults)
    return CHOICES(overrides, defaults, self_added) if needed else OmegaConf.create()


def version(source: ConfigSource, config_path: str) -> tuple[int, ...]:
    """What another content of a file changes; nothing for those of a package."""
    if source.scheme() != "file":
        return ()
    with contextlib.suppress(OSError):
        stat = Path(source.path, config_path.removesuffix(".yaml") + ".yaml").stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
    return ()
