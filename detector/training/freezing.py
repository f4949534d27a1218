"""Parameters that are not trained, by patterns of their names."""

import difflib
import fnmatch
from collections.abc import Sequence
from typing import Any

from torch import nn

from detector.errors import UserError, shown


def freeze(model: nn.Module, patterns: Sequence[str]) -> dict[str, list[str]]:
    """Leave parameters out of training: exactly those whose names match one of the patterns.

    Args:
        model: its parameters' `requires_grad` changes.
        patterns: each a parameter's name, the name of a part that holds it (`backbone`, `backbone.conv4_x.0`), or one
            of these with `*` and `?` (`*.conv1.*`, `backbone.conv[34]_x`).

    Returns:
        The names that each pattern matches.

    Raises:
        UserError: a pattern matches no parameter; the nearest part is named. Or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    matched = {pattern: [name for name in names if _matches(name, pattern)] for pattern in patterns}
    for pattern, matches in matched.items():
        if not matches:
            raise UserError(f"train.freeze: {shown(pattern)} matches no parameter; {_nearest(pattern, names)}.")
    frozen = {name for matches in matched.values() for name in matches}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("train.freeze leaves nothing to train; take a pattern out of it.")
    return matched


def keep_statistics(model: nn.Module, joint: nn.Module, names: Sequence[str]) -> None:
    """Keep batch norms in evaluation mode whose parameters are frozen, so that their statistics stay as they are too.

    Args:
        model: the norms' network.
        joint: runs it; its forward passes are where the mode is set, whatever it was switched to.
        names: of the frozen parameters.
    """
    frozen = set(names)
    still = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and f"{name}.weight" in frozen
    ]

    def set_mode(*_: Any) -> None:
        for module in still:
            module.eval()

    if still:
        joint.register_forward_pre_hook(set_mode)


def describe_freezing(model: nn.Module, matched: dict[str, list[str]]) -> str:
    """What each pattern freezes, as a table."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    width = max(len(pattern) for pattern in matched)
    lines = ["train.freeze, tensors and numbers that are not trained:"]
    for pattern, names in matched.items():
        count = sum(sizes[name] for name in names)
        lines.append(f"  {pattern:<{width}} {len(names):>5} {count:>12,}  {names[0]}{' …' if len(names) > 1 else ''}")
    return "\n".join(lines)


def _matches(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _nearest(pattern: str, names: Sequence[str]) -> str:
    parts = {".".join(name.split(".")[:end]): None for name in names for end in range(1, name.count(".") + 2)}
    near = difflib.get_close_matches(pattern, list(parts), n=1)
    if near:
        return f"did you mean {near[0]}?".removesuffix("?")
    top = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
    return f"parts are {', '.join(top)}"
