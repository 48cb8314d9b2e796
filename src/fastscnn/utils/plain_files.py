"""Reading small files of plain values, JSON and YAML, that a disk, a copy or an editor may have damaged."""

import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fastscnn.utils.errors import RequestError


class DamagedFile(RequestError, ValueError):
    """A file that is there and does not hold what it should; one sentence that names the file, and the fix."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: It is not whole JSON; the message is a few words, without the file's name.
        OSError: It cannot be read at all.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not whole JSON: {_lowered(error.msg)} in line {error.lineno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file of a config or of a list, with its interpolations.

    Raises:
        ValueError: It is not whole YAML, or it is a single value; the message is a few words, without the file's name.
        OSError: It cannot be read at all.
    """
    path.read_bytes()  # an OSError of OmegaConf means that the content is a single value
    try:
        return OmegaConf.load(path)
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        line = f" in line {place.line + 1}" if place else ""
        raise ValueError(f"it is not whole YAML: {error.problem}{line}") from None
    except yaml.YAMLError:  # characters that text does not have
        raise ValueError("it is not text") from None
    except (OSError, OmegaConfBaseException, ValueError):
        raise ValueError("it is not a config") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
