"""ImageNet weights for `model.backbone`: from a published name, another framework's file, or one of ours."""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from detector.config import Config
from detector.errors import UserError
from detector.printing import printable
from detector.weights.compare import require_finite
from detector.weights.files import is_weights_file, read_weights
from detector.weights.lineages.detectron2_resnet import is_detectron2_resnet, with_torchvision_names
from detector.weights.lineages.imagenet import imagenet_config, imagenet_state, resnet_names_of
from detector.weights.published.cache import fetch
from detector.weights.published.catalogue import PUBLISHED, suggest
from detector.weights.state_layout import backbone_shapes, is_of_last_stage, is_of_resnet, resnet_name
from detector.weights.untrusted.foreign_file import read_foreign

log = logging.getLogger(__name__)

# Channel means of the lineages (103.53 … 123.675, 102.98 … 122.77) differ by less; BGR for RGB by more.
MEAN_TOLERANCE = 5.0
STD_TOLERANCE = 0.05


@dataclass(frozen=True)
class BackboneWeights:
    """conv1 … conv4_x and, where there are any for the config, conv5_x, under our names, for RGB pixels.

    trained_with: a config whose backbone and input are as they were in training; None where the file does not say, as a
    local file with torchvision's names does not.
    """

    state: dict[str, Tensor]
    trained_with: Config | None


def resolve_backbone(config: Config) -> BackboneWeights:
    """The tensors of `model.backbone.weights`, for the backbone that `config` describes.

    Raises:
        UserError: no such file or name; not the weights of such a backbone; or pictures are prepared in another way.
    """
    source = config.model.backbone.weights
    assert source is not None
    weights = _resolve(source, config)
    require_finite(weights.state, source)
    if weights.trained_with is not None:
        if config.model.backbone.weights_channels != "rgb":
            raise UserError(f"{source}: the order of its channels is known; leave model.backbone.weights_channels out.")
        check_preparation(config, weights.trained_with, source)
    return weights


def check_preparation(config: Config, trained_with: Config, where: str) -> None:
    """Raise UserError unless the config feeds the network as it was fed in training, and strides where it strode.

    Small differences of the means, which the lineages have among them, are no difference.
    """
    problems = []
    mine, theirs = config.model.backbone, trained_with.model.backbone
    if mine.depth >= 50 and mine.stride_in_1x1 != theirs.stride_in_1x1:
        problems.append(f"model.backbone.stride_in_1x1={str(theirs.stride_in_1x1).lower()}")
    pairs = zip(config.input.pixel_std, trained_with.input.pixel_std, strict=True)
    if not all(math.isclose(a, b, rel_tol=STD_TOLERANCE) for a, b in pairs):
        problems.append(f"input.pixel_std={list(trained_with.input.pixel_std)}")
    pairs = zip(config.input.pixel_mean, trained_with.input.pixel_mean, strict=True)
    if not all(abs(a - b) <= MEAN_TOLERANCE for a, b in pairs):
        problems.append(f"input.pixel_mean={list(trained_with.input.pixel_mean)}")
    if problems:
        raise UserError(f"{where}: these weights were trained with {', '.join(problems)}; set the config to the same.")


def _resolve(source: str, config: Config) -> BackboneWeights:
    if source in PUBLISHED and not PUBLISHED[source].is_detector:
        published = PUBLISHED[source]
        tensors = read_foreign(fetch(source, published)).tensors
        assert published.kind in ("torchvision", "caffe2")
        return BackboneWeights(
            imagenet_state(tensors, config, source), imagenet_config(tensors, published.kind, source)
        )
    path = Path(os.path.expanduser(source))
    if os.path.exists(path) and source not in PUBLISHED and is_weights_file(path):
        return _ours(path, config)
    if source not in PUBLISHED and not os.path.exists(path):
        raise UserError(f"model.backbone.weights={source}: there is no such file, and no such name; {suggest(source)}")
    tensors = {} if source in PUBLISHED else read_foreign(path).tensors
    if is_detectron2_resnet(tensors):
        log.info(
            "%s: a backbone of detectron2; its channels are taken to be %s (model.backbone.weights_channels)",
            source,
            config.model.backbone.weights_channels,
        )
        tensors = with_torchvision_names(tensors)
    names = resnet_names_of(tensors)
    if names is None:
        first = ", ".join(printable(name, 60) for name in list(tensors)[:3])
        raise UserError(
            f"model.backbone.weights={source}: this is not an ImageNet ResNet; start from a detector with "
            f"model.weights.{f' (Its tensors are called {first}.)' if first else ''}"
        )
    trained_with = imagenet_config(tensors, names, source) if names == "caffe2" else None
    return BackboneWeights(imagenet_state(tensors, config, source), trained_with)


def _ours(path: Path, config: Config) -> BackboneWeights:
    """The ResNet in a weights file of ours, of whatever kind of model, under the names that the config's model has.

    Without conv5_x where the config norms that one in another way.
    """
    file = read_weights(path)
    mine, theirs = config.model.backbone, file.config.model.backbone
    same_last_stage = (mine.conv5_norm or mine.norm) == (theirs.conv5_norm or theirs.norm)
    called = {resnet_name(name): name for name in backbone_shapes(config)}
    state = {
        called.get(resnet_name(name), name): tensor
        for name, tensor in file.state_dict.items()
        if is_of_resnet(name) and (same_last_stage or not is_of_last_stage(name))
    }
    return BackboneWeights(state, file.config)
