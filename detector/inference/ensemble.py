"""Several models as one. Their classes are the same, though perhaps in another order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import InputConfig
from detector.errors import UserError, shown
from detector.model.faster_rcnn import FasterRCNN


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, or the only one.

    network: as it is executed. input: how pictures are prepared for it. order: its own label for each of the ensemble's
    labels 1..K; None where they are the same.
    """

    network: FasterRCNN
    input: InputConfig
    order: tuple[int, ...] | None = None

    def translate(self, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores [P, K+1] and boxes [P, K, 4] put from the order of its own labels into the ensemble's."""
        if self.order is None:
            return scores, boxes
        own = torch.tensor(self.order, device=scores.device)
        return scores[:, torch.cat((own.new_zeros(1), own))], boxes[:, own - 1]


def label_order(first: CategoryMap, other: CategoryMap, name: str, other_name: str) -> tuple[int, ...] | None:
    """The labels of `other` in the order in which `first` has the same classes by name; None for the same order.

    Args:
        first, other: categories of two models.
        name, other_name: of their weights, for messages.

    Raises:
        UserError: one has classes that the other has not, or several of one name.
    """
    for categories, which in ((first, name), (other, other_name)):
        if repeated := categories.repeated_names():
            raise UserError(
                f"{which}: several classes are called {shown(repeated)}, so those of another model cannot be matched "
                "with them by name; rename them, or use this model alone."
            )
    if first.names == other.names:
        return None
    missing, more = set(first.names) - set(other.names), set(other.names) - set(first.names)
    if missing or more:
        lacks = f"lacks {shown(sorted(missing))}" if missing else ""
        has = f"has {shown(sorted(more))} besides" if more else ""
        raise UserError(
            f"{other_name}: has other classes than {name}: it {' and '.join(filter(None, (lacks, has)))}; models that "
            "detect together need the same classes by name."
        )
    return tuple(other.names.index(class_name) + 1 for class_name in first.names)


def join_members(
    members: Sequence[Member], categories: Sequence[CategoryMap], names: Sequence[str]
) -> tuple[Member, ...]:
    """Single models as members of one ensemble, with the labels of the first.

    Args:
        members, categories: of each model.
        names: what the models are called in messages.

    Raises:
        UserError: as `label_order`.
    """
    others = zip(members[1:], categories[1:], names[1:], strict=True)
    ordered = [replace(one, order=label_order(categories[0], its, names[0], name)) for one, its, name in others]
    return (members[0], *ordered)
