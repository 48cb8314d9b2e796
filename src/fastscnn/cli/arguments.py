"""Arguments that Hydra would take without a word, and that are not what their user means."""

from collections.abc import Sequence

from fastscnn.utils.errors import RequestError

RUNS = ("train", "eval")
"""Commands that make a folder of their own."""


def check_arguments(arguments: Sequence[str], command: str) -> None:
    """Check settings without a value, such as `input=$PHOTOS` of a variable that is not set, and a folder of Hydra's.

    Args:
        arguments: Of the command line, with the groups' options chosen.
        command: Name of its config.

    Raises:
        RequestError: There is one.
    """
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith(("-", "~")) or not equals:
            continue
        name = name.lstrip("+")
        if not value.strip():
            raise RequestError(f"{argument} has no value.", key=name, fix=f"Set {name}=VALUE, or leave {name} out.")
        if name == "hydra.run.dir":
            folders = "Set paths.run_dir=DIR, or paths.output_dir=DIR for the folder of all runs."
            raise RequestError(
                f"{argument} has no effect: the settings of a command say where its files go.",
                key=name,
                fix=folders if command in RUNS else f"Leave it out; {command}.py --help lists them.",
            )
