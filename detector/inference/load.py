"""From weights to a predictor: one model or several, of this project or of another framework."""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace

from detector.arithmetic import AskedPrecision, detection_precision
from detector.config import override_config
from detector.device import choose_device
from detector.errors import UserError
from detector.inference.asked import check_asked, paths_of
from detector.inference.ensemble import join_members
from detector.inference.predictor import Predictor
from detector.model.build import build_model
from detector.weights.compare import load_state
from detector.weights.resolve import resolve_weights


def load(
    weights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    config: str | os.PathLike[str] | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    fast: bool = True,
    precision: AskedPrecision = "auto",
    compiled: bool = False,
    boxes_only: bool = False,
) -> Predictor:
    """Load a trained detector, ready to predict.

    Args:
        weights: a path to our `.safetensors`, a published name such as "R101-C4-3x" (fetched once into the cache
            folder), or another framework's checkpoint. Several are an ensemble: models of any kind with the same
            classes by name, which detect together (`detector.inference.augmented`).
        config: the config that belongs to another framework's checkpoint; our own files carry theirs.
        device: auto (the best there is), cpu, cuda, cuda:N or mps.
        overrides: `key.path=value` words that change the weights' own settings, e.g. "input.min_size_test=600"; of
            an ensemble, the settings of all of them.
        fast: use the fast execution of the network (`detector.fast.fuse`); the detections are the same.
        precision: float32 is exact; tf32 rounds products on an NVIDIA GPU; bfloat16 is about twice as fast and gives
            nearly the same detections, only with `fast`; auto is bfloat16 on an NVIDIA GPU that has it, else float32.
        compiled: use `torch.compile` as well, which takes a minute at the first pictures; only with `fast`.
        boxes_only: of another framework's Mask R-CNN or Keypoint R-CNN, its box branch; the log counts the rest.

    Raises:
        UserError: one sentence saying what is missing or does not fit, and the remedy; models of an ensemble whose
            classes differ.
    """
    several = paths_of(weights)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    check_asked(several, config, overrides, fast, precision, compiled)
    chosen = choose_device(device)
    resolved = detection_precision(precision, chosen, fast)  # now: fetching weights may take long
    predictors = []
    for one in several:
        loaded = resolve_weights(one, None if config is None else str(config), boxes_only)
        if len(loaded.categories) == 0:
            raise UserError(f"{one}: holds a backbone without a detection head; train a detector from it first.")
        settings = override_config(loaded.config, overrides)
        settings = replace(settings, model=replace(settings.model, num_classes=len(loaded.categories)))
        model = build_model(settings)
        load_state(model, loaded.state_dict, one, "use the config that it was trained with.")
        model = model.to(chosen)
        predictors.append(Predictor(model, settings, loaded.categories, loaded.provenance, fast, resolved, compiled))
    return join(predictors, several)


def join(predictors: Sequence[Predictor], names: Sequence[str]) -> Predictor:
    """Make an ensemble of predictors; the first one's classes and settings of detection are the ensemble's.

    Args:
        predictors: of one model each, on one device, in one precision.
        names: what they are called in messages.

    Raises:
        UserError: their classes differ by name.
    """
    joined = copy.copy(predictors[0])
    members = [one.members[0] for one in predictors]
    joined.members = join_members(members, [one.categories for one in predictors], names)
    return joined
