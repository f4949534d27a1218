"""Starting a training run from weights: an ImageNet backbone, or a detector of the same or of other classes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from detector.categories import CategoryMap
from detector.config import Config
from detector.config.network import PYRAMID_LEVELS
from detector.errors import UserError
from detector.model.blocks import FrozenBatchNorm2d
from detector.weights.backbone_weights import check_preparation, resolve_backbone
from detector.weights.compare import COUNTER, compare_state, copy_state, shapes_of
from detector.weights.files import SUFFIX
from detector.weights.resolve import resolve_weights
from detector.weights.state_layout import (
    BY_CLASS,
    FOUR_BY_CLASS,
    has_last_stage,
    has_thresholds,
    is_of_last_stage,
    is_of_resnet,
)

log = logging.getLogger(__name__)


@dataclass
class StartReport:
    """Where a model's tensors came from, by name.

    loaded: as they are in the file. remade: class-specific ones, with a remark on how. fresh: newly initialised.
    """

    where: str
    loaded: list[str] = field(default_factory=list)
    remade: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """One line for the log: how many tensors came, and the names of all that did not."""
        parts = [f"{self.where}: {len(self.loaded)} tensors came from it"]
        if self.remade:
            parts.append(f"re-made for these classes: {', '.join(self.remade)}")
        if self.fresh:
            parts.append(f"new: {', '.join(_modules(self.fresh))}")
        return "; ".join(parts)


def initialise(model: nn.Module, config: Config, categories: CategoryMap) -> StartReport | None:
    """Fill a fresh model from `model.weights`, else from `model.backbone.weights`; None where neither is set.

    Args:
        model: as `build_model(config)` makes it, changed in place.
        categories: of the data; those that the weights know by the same name keep their rows of the head.

    Raises:
        UserError: the weights are not available, are of another network, or need pictures prepared in another way.
    """
    source = config.model.weights or config.model.backbone.weights
    if source is None:
        return None
    if not source.endswith(SUFFIX):  # before it is fetched: other frameworks' networks have none
        require_thresholds((), config, source)
    if config.model.weights is not None:
        weights = resolve_weights(config.model.weights)
        require_thresholds(weights.state_dict, config, source)
        if len(weights.categories) == 0:
            raise UserError(
                f"model.weights={config.model.weights}: holds a backbone alone; set model.backbone.weights."
            )
        check_preparation(config, weights.config, config.model.weights)
        require_order_of_anchors(config, weights.config, config.model.weights)
        report = load_matching(model, weights.state_dict, weights.categories, categories, config.model.weights)
    else:
        state = resolve_backbone(config).state
        require_thresholds(state, config, source)
        report = load_backbone(model, state, source)
    log.info("%s", report.describe())
    return report


def require_thresholds(names: Iterable[str], config: Config, where: str) -> None:
    """Raise UserError where a network with shrinkage would start from tensors, of our names, of one without.

    The thresholds would be fresh, and what was trained was trained without any.
    """
    shrinkage = config.model.backbone.shrinkage
    if shrinkage is not None and not has_thresholds(names):
        raise UserError(
            f"{where}: these weights were trained without thresholds; leave out model.backbone.shrinkage={shrinkage}, "
            "or train from scratch."
        )


def require_order_of_anchors(config: Config, trained_with: Config, where: str) -> None:
    """Raise UserError where the RPN's channels would come to stand for other anchors than they were trained for."""
    mine, theirs = config.model.rpn, trained_with.model.rpn
    one_a_cell = config.model.kind == "fpn" and len(mine.anchor_sizes) == PYRAMID_LEVELS
    same_number = len(mine.anchor_sizes) == len(theirs.anchor_sizes)
    if mine.anchor_order != theirs.anchor_order and same_number and not one_a_cell:
        raise UserError(
            f"{where}: trained with model.rpn.anchor_order={theirs.anchor_order}; set the config to the same."
        )


def load_backbone(model: nn.Module, state: Mapping[str, Tensor], where: str) -> StartReport:
    """Load conv1 … conv4_x, and conv5_x where `state` has it; all else, such as a feature pyramid, stays fresh.

    Raises:
        UserError: tensors missing, left over or of another shape; or conv5_x would start fresh under frozen norms.
    """
    report = StartReport(where)
    whole = has_last_stage(state)
    target = model.state_dict()
    wanted = {n: tensor for n, tensor in target.items() if is_of_resnet(n) and (whole or not is_of_last_stage(n))}
    _require_same(wanted, state, where)
    if not whole and _has_frozen_last_stage(model):
        raise UserError(
            f"{where}: has no conv5_x, which then starts fresh, and frozen batch norms in it would stay untrained; "
            "set model.backbone.conv5_norm=group or batch."
        )
    report.loaded = [name for name in wanted if name in state]
    report.fresh = [name for name in target if name not in wanted]
    copy_state(target, {name: state[name] for name in report.loaded})
    return report


def load_matching(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source_categories: CategoryMap,
    categories: CategoryMap,
    where: str,
) -> StartReport:
    """Load a detector's weights into a model of the same or of other classes.

    The backbone and conv5_x must match. The rows of `cls_score` and `bbox_pred` are copied for the background and for
    every class that has the same name in both; the other rows stay fresh. RPN layers for another number of anchors or
    channels stay fresh too.

    Args:
        model: changed in place.
        state: our names.
        source_categories, categories: of `state` and of the model.
        where: the file's name, for messages.

    Raises:
        UserError: the backbone or conv5_x is of another network.
    """
    report = StartReport(where)
    target = model.state_dict()
    body = {name: tensor for name, tensor in target.items() if is_of_resnet(name)}
    _require_same(body, {n: t for n, t in state.items() if is_of_resnet(n)}, where)
    values: dict[str, Tensor] = {}
    same_classes = source_categories.names == categories.names
    for name, tensor in target.items():
        if name in BY_CLASS and name in state and not same_classes:
            values[name], shared = remake_rows(tensor, state[name], source_categories.names, categories.names, name)
            report.remade.append(f"{name} ({shared} of {len(categories)} classes known by name)")
        elif name in state and state[name].shape == tensor.shape:
            values[name] = state[name]
            report.loaded.append(name)
        elif not name.endswith(COUNTER):
            report.fresh.append(name)
    copy_state(target, values)
    return report


def remake_rows(
    fresh: Tensor, source: Tensor, source_names: Sequence[str], names: Sequence[str], tensor_name: str
) -> tuple[Tensor, int]:
    """Rows of a class-specific layer for other classes.

    Args:
        fresh, source: weights or biases of `cls_score` ([K+1, …], row 0 the background) or `bbox_pred` ([4K, …]).
        source_names, names: the K classes of each, in the order of their labels.
        tensor_name: says which of the two layers it is.

    Returns:
        `fresh` with the rows of `source` for the background and the classes of the same name; and how many they are.
    """
    if fresh.shape[1:] != source.shape[1:]:
        return fresh, 0
    rows = fresh.clone()
    per_class = 4 if tensor_name in FOUR_BY_CLASS else 1
    background = 0 if tensor_name in FOUR_BY_CLASS else 1
    rows[:background] = source[:background]
    position = {name: index for index, name in enumerate(source_names) if list(source_names).count(name) == 1}
    shared = [(index, position[name]) for index, name in enumerate(names) if name in position]
    for index, origin in shared:
        to, of = background + index * per_class, background + origin * per_class
        rows[to : to + per_class] = source[of : of + per_class]
    return rows, len(shared)


def _require_same(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    differences = compare_state(shapes_of(wanted), shapes_of(state))
    if differences:
        raise UserError(
            f"{where}: its backbone is not the network that model.backbone describes ({differences.describe()}); set "
            "model.kind, depth, width and norm to those of the weights."
        )


def _has_frozen_last_stage(model: nn.Module) -> bool:
    return any(
        is_of_last_stage(name) and isinstance(module, FrozenBatchNorm2d) for name, module in model.named_modules()
    )


def _modules(names: Sequence[str]) -> list[str]:
    """Names for the log: conv5_x as a whole, other tensors each."""
    return list(dict.fromkeys(n.partition("conv5_x")[0] + "conv5_x" if is_of_last_stage(n) else n for n in names))
