"""Classes that a config names: `_target_` and their arguments, checked before anything is built."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import get_object, instantiate

from fastscnn.utils.errors import RequestError

TARGET = "_target_"
OF_HYDRA = (TARGET, "_partial_", "_recursive_", "_convert_", "_args_")
"""Keys of a node that are about building it, not arguments."""


def named_object(node: Mapping[str, Any], key: str) -> Any:
    """What the `_target_` of a config node names.

    Args:
        node: The config node.
        key: Where it stands in the config, such as `optimizer`.

    Raises:
        RequestError: It names nothing, or its module cannot be imported.
    """
    name = node.get(TARGET) if isinstance(node, Mapping) else None  # a user's own file may hold anything
    if not isinstance(name, str) or not name:
        raise RequestError(
            f"{key} has no {TARGET}, the dotted name of its class.", key=key, fix=f"Set {key}.{TARGET}=MODULE.CLASS."
        )
    try:
        return get_object(name)
    except Exception as error:  # whatever the import of a user's own module may raise
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise RequestError(
            f"{key}.{TARGET}={name} cannot be imported ({cause}).",
            key=f"{key}.{TARGET}",
            fix="Correct the name, or put the folder of its module on PYTHONPATH.",
        ) from None


def parameters(target: Callable[..., Any]) -> tuple[set[str], bool]:
    """Names of the arguments that a class or a function takes, and whether it takes any other too."""
    found = inspect.signature(target).parameters.values()
    names = {one.name for one in found if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    return names, any(one.kind == one.VAR_KEYWORD for one in found)


def check_arguments(node: Mapping[str, Any], key: str, target: Callable[..., Any]) -> None:
    """Check that a class takes every argument that its config node gives.

    Raises:
        RequestError: It does not take some; names them, and the overrides that drop them.
    """
    names, takes_any = parameters(target)
    wrong = [f"{key}.{name}" for name in node if name not in OF_HYDRA and name not in names and not takes_any]
    if wrong:
        are = "are no arguments" if len(wrong) > 1 else "is no argument"
        drops = " ".join(f"'~{name}'" for name in wrong)
        raise RequestError(f"{', '.join(wrong)} {are} of {node[TARGET]}.", key=wrong[0], fix=f"Drop: {drops}.")


def build(node: Mapping[str, Any], key: str, *arguments: Any, **settings: Any) -> Any:
    """Build what a config node names, whether it says `_partial_: true` or not.

    Args:
        node: `_target_` and the arguments.
        key: Where it stands in the config.
        arguments: Positional arguments that come before those of the node.
        settings: Arguments besides those of the node.

    Raises:
        RequestError: The class does not take an argument, or not such a value.
    """
    target = named_object(node, key)
    check_arguments(node, key, target)
    whole = {**node, "_convert_": "all", "_partial_": True}
    try:
        return instantiate(whole)(*arguments, **settings)  # Hydra would copy what it is given
    except RequestError:
        raise
    except Exception as error:
        if "blocklisted" in str(error):  # by Hydra, in a sentence of many lines
            raise RequestError(
                f"{key}.{TARGET}={node[TARGET]} can run any program or code, which Hydra does not build.",
                key=f"{key}.{TARGET}",
                fix="Name a class of a library or of your own.",
            ) from error
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise RequestError(
            f"{key}: {node[TARGET]} cannot be built ({cause[0]}).",
            key=key,
            fix=f"Correct its arguments, {key}.NAME=VALUE; one that is not there yet is +{key}.NAME=VALUE.",
        ) from error
