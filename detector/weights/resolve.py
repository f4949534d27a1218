"""From what a user names (our file, a published name, another framework's file) to a state dict and its config."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from detector.categories import CategoryMap
from detector.config import Config, load_config
from detector.errors import UserError, shown
from detector.printing import printable
from detector.weights.compare import require_finite
from detector.weights.config_maker import require_config_of
from detector.weights.files import CLASS_SCORES, WeightsFile, is_weights_file, read_weights
from detector.weights.lineages.coco_categories import COCO_CATEGORIES, COCO_IDS
from detector.weights.lineages.detectron2_resnet import with_torchvision_names
from detector.weights.lineages.detectron2_settings import read_settings
from detector.weights.lineages.detectron2_tensors import from_detectron2, is_detectron2
from detector.weights.lineages.imagenet import backbone_of, imagenet_config, imagenet_state, resnet_names_of
from detector.weights.lineages.mmdetection_config_text import read_mmdetection_config
from detector.weights.lineages.mmdetection_tensors import (
    from_mmdetection,
    is_mmdetection,
    read_class_names,
    read_stored_config,
)
from detector.weights.lineages.torchvision_detector import (
    from_torchvision_detector,
    is_torchvision_detector,
    num_classes_of,
    resnet_names,
    torchvision_detector_config,
)
from detector.weights.lineages.torchvision_pyramid import (
    from_torchvision_pyramid,
    is_torchvision_pyramid,
    other_torchvision_model,
    torchvision_pyramid_config,
)
from detector.weights.published.cache import fetch
from detector.weights.published.catalogue import PUBLISHED, Published, find_weights
from detector.weights.remap import remap
from detector.weights.state_layout import model_shapes
from detector.weights.untrusted.foreign_file import ForeignWeights, read_foreign

log = logging.getLogger(__name__)

TV_SCORES = "roi_heads.box_predictor.cls_score.weight"  # torchvision's name of the layer of class scores


def resolve_weights(
    name_or_path: str | Path, config_path: str | Path | None = None, boxes_only: bool = False
) -> WeightsFile:
    """Load weights, converted to our names, with the config that they need.

    Args:
        name_or_path: a `.safetensors` of ours; a published name (`R101-C4-3x`, `ResNet-50`, …), fetched into the cache
            folder; or another framework's file: detectron2's `.pkl` or `.pth`, mmdetection's `.pth`, a torchvision
            detector or ResNet, a Caffe2 ResNet.
        config_path: for a file of detectron2 its own `config.yaml`, which is needed; for one of mmdetection its dumped
            config, in place of the one that the file carries; for the others a config of ours that replaces what the
            file says or what is inferred from its shapes.
        boxes_only: of another framework's Mask R-CNN or Keypoint R-CNN, the box branch; what is left out is logged.

    Returns:
        State dict, config with `model.num_classes` set, categories, provenance. For an ImageNet ResNet only
        conv1 … conv5_x, and no categories.

    Raises:
        UserError: one sentence: no such file or name, not weights, refused as unsafe, or not fitting the config.
    """
    weights = _read(str(name_or_path), None if config_path is None else Path(config_path).expanduser(), boxes_only)
    require_finite(weights.state_dict, str(name_or_path))
    repeated = weights.categories.repeated_names()
    if repeated:
        log.warning(
            "%s: several categories are called %s; detections tell them apart by id only", name_or_path, shown(repeated)
        )
    return weights


def _read(name: str, config_path: Path | None, boxes_only: bool) -> WeightsFile:
    if name in PUBLISHED:
        if config_path is not None:
            raise UserError(f"{name}: published weights bring their own config; leave {config_path} out.")
        return _published(name, PUBLISHED[name])
    path = find_weights(name)
    assert path is not None  # it is no published name
    if is_weights_file(path):
        if boxes_only:
            raise UserError(f"{name}: a file of ours holds boxes alone; leave --boxes-only out.")
        require_config_of("this project", config_path, name, "a model of this project")
        weights = read_weights(path)
        return weights if config_path is None else replace(weights, config=load_config(config_path))
    return convert(read_foreign(path), path, config_path, boxes_only)


def convert(weights: ForeignWeights, path: Path, config_path: Path | None, boxes_only: bool = False) -> WeightsFile:
    """Convert another framework's tensors, recognised by their names.

    Args:
        weights: as `read_foreign` gives them.
        path: the file they came from, for messages and the provenance.
        config_path, boxes_only: as in `resolve_weights`.
    """
    tensors = weights.tensors
    where = str(path)
    if is_detectron2(tensors):
        return _convert_detectron2(weights, path, config_path, boxes_only)
    if is_mmdetection(tensors):
        return _convert_mmdetection(weights, path, config_path, boxes_only)
    other = other_torchvision_model(tensors)
    if other is not None:
        raise UserError(f"{where}: {other} of torchvision, which is another network; Faster R-CNN on a ResNet loads.")
    require_config_of("this project", config_path, where, "none of its models")
    given = None if config_path is None else load_config(config_path)
    if is_torchvision_pyramid(tensors):
        config = _with_classes(given, tensors, TV_SCORES) or _inferred(torchvision_pyramid_config, tensors, where)
        state = from_torchvision_pyramid(tensors, config, where, boxes_only)
        return _detector(state, config, weights.categories, _provenance("torchvision", path))
    if boxes_only:
        raise UserError(f"{where}: is no Mask R-CNN or Keypoint R-CNN; leave --boxes-only out.")
    if is_torchvision_detector(tensors):
        config = _with_classes(given, tensors, TV_SCORES) or _inferred(_torchvision_config, tensors, where)
        state = from_torchvision_detector(tensors, config, where)
        return _detector(state, config, weights.categories, _provenance("torchvision", path))
    tensors = with_torchvision_names(tensors)
    names = resnet_names_of(tensors)
    if names is not None:
        config = given or imagenet_config(tensors, names, where)
        state = imagenet_state(tensors, config, where)
        return WeightsFile(state, config, CategoryMap(()), _provenance(names, path))
    if CLASS_SCORES in tensors and "rpn.objectness.weight" in tensors:
        ours = _with_classes(given, tensors, CLASS_SCORES)
        if ours is None:
            raise UserError(
                f"{where}: our weights without their config; give it with --config, or the file that training wrote."
            )
        shapes = model_shapes(ours)
        state = remap(tensors, {name: name for name in shapes}, shapes, where)
        return _detector(state, ours, weights.categories, _provenance("torch.save", path))
    first = ", ".join(printable(name, 60) for name in list(tensors)[:3])
    raise UserError(
        f"{where}: names such as {first} match no model known here (Faster R-CNN of detectron2, mmdetection "
        "or torchvision, ResNet of torchvision or Caffe2)."
    )


def _convert_detectron2(weights: ForeignWeights, path: Path, config_path: Path | None, boxes_only: bool) -> WeightsFile:
    """`convert`, of a model of detectron2, whose config is a file of its own."""
    if config_path is None:
        raise UserError(
            f"{path}: a detectron2 model needs its config; give its config.yaml with --config, or convert it once "
            "with `faster-rcnn convert-weights`."
        )
    require_config_of("detectron2", config_path, str(path), "a model of detectron2")
    source = f"{path} ({config_path})"
    state, config = from_detectron2(weights.tensors, read_settings(config_path), source, boxes_only)
    return _detector(state, config, weights.categories, _provenance("detectron2", path))


def _convert_mmdetection(
    weights: ForeignWeights, path: Path, config_path: Path | None, boxes_only: bool
) -> WeightsFile:
    """`convert`, of a model of mmdetection, whose config is the one that is given, or that the file holds."""
    where = str(path)
    require_config_of("mmdetection", config_path, where, "a model of mmdetection")
    values = read_stored_config(weights.meta, where) if config_path is None else read_mmdetection_config(config_path)
    source = where if config_path is None else f"{where} ({config_path})"
    state, model = from_mmdetection(weights.tensors, values, source, boxes_only)
    categories = read_class_names(weights.meta, model, where)
    return _detector(state, model.config, categories, _provenance("mmdetection", path))


def _published(name: str, published: Published) -> WeightsFile:
    path = fetch(name, published)
    weights = read_foreign(path)
    provenance = _provenance(published.kind, path) | {"published_as": name, "url": published.url}
    if not published.is_detector:
        return replace(convert(weights, path, None), provenance=provenance)
    provenance |= {"published_AP": published.ap}
    if published.kind == "torchvision":
        return replace(convert(weights, path, None), provenance=provenance)
    assert published.settings is not None
    if published.kind == "mmdetection":
        state, model = from_mmdetection(weights.tensors, published.settings, name)
        return _detector(state, model.config, read_class_names(weights.meta, model, name), provenance)
    state, config = from_detectron2(weights.tensors, published.settings, name)
    return _detector(state, config, COCO_CATEGORIES, provenance)


def _with_classes(given: Config | None, tensors: Mapping[str, Tensor], scores: str) -> Config | None:
    """The config with as many classes as the layer of class scores has, where it leaves that to the data."""
    if given is None or given.model.num_classes is not None:
        return given
    rows = tensors[scores].shape[:1]
    return replace(given, model=replace(given.model, num_classes=max(2, *rows) - 1))


def _inferred(make: Callable[[Mapping[str, Tensor], str], Config], tensors: Mapping[str, Tensor], where: str) -> Config:
    """The config that shapes say. Raises UserError where tensors are missing, or have other axes, that would say it."""
    try:
        return make(tensors, where)
    except UserError:
        raise
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"{where}: tensors that such a model has are missing or of other axes; the file is not whole, get it again."
        ) from None


def _torchvision_config(tensors: Mapping[str, Tensor], where: str) -> Config:
    resnet = {name: tensors[original] for original, name in resnet_names(tensors).items()}
    backbone = backbone_of(resnet, "torchvision", where)
    config = torchvision_detector_config(
        backbone.depth,
        num_classes_of(tensors),
        stem_channels=backbone.stem_channels,
        width=backbone.width,
    )
    log.info("%s: a torchvision model does not say its settings; torchvision's defaults are taken", where)
    return config


def _detector(
    state: dict[str, Tensor], config: Config, categories: CategoryMap | None, provenance: dict[str, object]
) -> WeightsFile:
    """A converted detector; its classes get names where the file has none.

    Raises:
        UserError: there are more names than classes, or fewer.
    """
    count = config.model.num_classes
    assert count is not None
    if categories is None and count == len(COCO_IDS) and provenance["converted_from"] == "torchvision":
        log.info("%s names no classes; being 90, they are taken to be COCO's ids", provenance["file"])
        categories = COCO_IDS
    if categories is None and count == len(COCO_CATEGORIES):
        log.info("%s names no classes; being 80, they are taken to be COCO's", provenance["file"])
        categories = COCO_CATEGORIES
    if categories is None:
        log.info("%s names no classes; they are called class_1 … class_%d", provenance["file"], count)
        categories = CategoryMap.from_names([f"class_{label}" for label in range(1, count + 1)])
    if len(categories) != count:
        raise UserError(f"{provenance['file']}: has {count} classes and names {len(categories)} categories.")
    return WeightsFile(state, config, categories, provenance)


def _provenance(kind: str, path: Path) -> dict[str, object]:
    return {"converted_from": kind, "file": path.name}
