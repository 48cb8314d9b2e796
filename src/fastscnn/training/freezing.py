"""Parts of a network that a training leaves as they are."""

from collections.abc import Sequence

from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.errors import RequestError

FREEZE = "init.freeze"


def freeze_parts(module: Segmentation, parts: Sequence[str]) -> None:
    """Freeze parts of the network: their weights and batch statistics stay as they are.

    Args:
        module: The module; `module.frozen` then holds the parts.
        parts: Names such as `learning_to_downsample`, or of a part in one, `global_feature_extractor.0`.

    Raises:
        RequestError: There is no such part, or nothing is left to train.
    """
    for name in parts:
        try:
            part = module.network.get_submodule(name) if name else None
        except AttributeError:
            part = None
        if part is None:
            children = [child for child, _ in module.network.named_children()]
            if len(children) == 1:  # an external network within ours
                inner = module.network.get_submodule(children[0]).named_children()
                children = [f"{children[0]}.{child}" for child, _ in inner] or children
            raise RequestError(
                f"{FREEZE}=[{','.join(parts)}]: the network has no part {name}.",
                key=FREEZE,
                fix=f"Name some of {', '.join(children)}, or a part of one, such as {children[0]}.0.",
            )
        part.requires_grad_(False)
        module.frozen.append(part)
    if not any(parameter.requires_grad for parameter in module.network.parameters()):
        raise RequestError(
            f"{FREEZE}=[{','.join(parts)}] leaves nothing of the network to train.",
            key=FREEZE,
            fix="Leave the last part out of it.",
        )
    module.train()
