"""The groups of a command and their options: a line each for its `--help`, and what an argument may choose."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from fastscnn.utils.errors import RequestError

RESOLVER = "options_of"
"""Of OmegaConf, for the help template: `${options_of:train}`."""
OF_HYDRA = {"hydra/launcher": "with -m: how the jobs of a multirun are run, by default one after the other"}
"""Groups of Hydra's with options of ours."""
WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c")
"""Flags of Hydra's whose value is the next argument."""
WIDTH = 110
DEFAULT = re.compile(r"^  - (?:optional )?(?P<group>[a-z][\w/]*): *(?P<option>[^#]*?) *(?:# *(?P<words>.*))?$")


def register(conf: Path) -> None:
    """Let the help template list the options of a command; those of a `--config-dir` are among them."""

    def listed(command: str) -> str:
        return "\n".join(lines(command, [conf, *_config_dirs(sys.argv[1:])])).replace("$", "$$")

    OmegaConf.register_new_resolver(RESOLVER, listed, replace=True)


def lines(command: str, folders: Sequence[Path]) -> Iterator[str]:
    """A line for each group of a command, and one for each of its options.

    Args:
        command: Name of its config.
        folders: Of configs; the first is ours.
    """
    groups = _groups(command, folders[0])
    groups = {group: groups[group] for group in sorted(groups)}
    groups |= {group: ("basic", words) for group, words in OF_HYDRA.items()}
    for group, (default, words) in groups.items():
        files = _files(group, folders)
        if not files:
            continue
        yield f"{group}: {words}".rstrip(": ")
        for option in sorted(files):
            mark = "*" if option == default.strip("[]") else " "
            yield f" {mark}{group}={option}".ljust(34) + f" {header(files[option])}"


def in_one_row(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with all settings after the flags, where flags stand between them: Hydra takes one row."""
    flags: list[str] = []
    settings: list[str] = []
    breaks = 0
    for place, argument in enumerate(arguments):
        before = arguments[place - 1] if place else ""
        named = "=" in argument or argument.startswith("~")  # or else it is the value of the flag before it
        if argument.startswith("-") or before in WITH_VALUE or (before.startswith("-") and not named):
            flags.append(argument)
        else:
            breaks += bool(settings) and before != settings[-1]
            settings.append(argument)
    return [*flags, *settings] if breaks else list(arguments)


def with_options(arguments: Sequence[str], command: str, conf: Path) -> list[str]:
    """Command-line arguments that choose an option of each group that needs one, named without `.yaml`.

    Args:
        arguments: Of the command line.
        command: Name of its config.
        conf: The folder of our configs.

    Raises:
        RequestError: A group is given no option, or several where it takes one; or an option of the user's own has the
            name of one of ours, which Hydra would take.
    """
    groups = _groups(command, conf)
    taken = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        group = name.removeprefix("~")
        default, _ = groups.get(group, (None, ""))
        options = [option.removesuffix(".yaml") for option in value.split(",")]
        none = not value or "null" in options
        for option in value.strip("[]").split(",") if default else ():
            _refuse_hidden(Path(group, f"{option.removesuffix('.yaml')}.yaml"), conf, _config_dirs(arguments))
        if default is None or argument == group:
            taken.append(argument)
        elif default.startswith("["):  # takes several
            taken.append(f"{group}=[]" if none or name != group else argument)
        elif default == "null" and (name != group or (none and len(options) == 1)):
            continue
        elif name != group or none or value.startswith("["):
            known = sorted(_files(group, [conf, *_config_dirs(arguments)]))
            raise RequestError(
                f"{argument}: {group} takes one option.", key=group, fix=f"Choose one of {', '.join(known)}."
            )
        else:
            taken.append(f"{group}={','.join(options)}")
    return taken


def _refuse_hidden(option: Path, conf: Path, folders: Iterable[Path]) -> None:
    """Refuse an option of the user's own that one of ours hides."""
    for folder in folders:
        if (conf / option).is_file() and (folder / option).is_file() and not (folder / option).samefile(conf / option):
            raise RequestError(
                f"{folder / option} has the name of an option that comes with the package, and would not be used.",
                key=str(option.parent),
                fix="Give your file another name.",
            )


def _groups(command: str, conf: Path) -> dict[str, tuple[str, str]]:
    """Group to its default option as the config of a command has it, and to the comment beside it."""
    groups = {}
    for line in (conf / f"{command}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("  - override"):
            continue
        if found := DEFAULT.match(line):
            groups[found["group"]] = (found["option"], found["words"] or "")
        elif not line.startswith((" ", "#", "defaults")):
            break
    return groups


def _files(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    return {file.stem: file for folder in folders for file in (folder / group).glob("*.yaml")}


def header(file: Path) -> str:
    """The first sentence of a file's leading comment."""
    comment: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if not text and comment:
            break
        if not text.startswith("@package"):
            comment.append(text)
    sentence = re.split(r"(?<!al)\.(?= |$)", " ".join(comment))[0]
    return sentence if len(sentence) <= WIDTH else sentence[: WIDTH - 4].rsplit(" ", 1)[0] + " ..."


def _config_dirs(arguments: Sequence[str]) -> Iterator[Path]:
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            yield Path(value if equals else "".join(arguments[place + 1 : place + 2]))
