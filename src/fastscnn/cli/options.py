"""The groups and options of a command for its `--help`: one line each, from the headers of the files."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

RESOLVER = "options_of"
"""Of OmegaConf, for the help template: `${options_of:train}`."""
OF_HYDRA = {"hydra/launcher": "with -m: how the jobs of a multirun are run, by default one after the other"}
"""Groups of Hydra's with options of ours."""
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
    groups = {}
    for line in (folders[0] / f"{command}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("  - override"):
            continue
        if found := DEFAULT.match(line):
            groups[found["group"]] = (found["words"] or "", found["option"].strip("[]"))
        elif not line.startswith((" ", "#", "defaults")):
            break
    groups = {group: groups[group] for group in sorted(groups)}
    groups |= {group: (words, "basic") for group, words in OF_HYDRA.items()}
    for group, (words, default) in groups.items():
        files = {file.stem: file for folder in folders for file in (folder / group).glob("*.yaml")}
        if not files:
            continue
        yield f"{group}: {words}".rstrip(": ")
        for option in sorted(files):
            mark = "*" if option == default else " "
            yield f" {mark}{group}={option}".ljust(34) + f" {header(files[option])}"


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
