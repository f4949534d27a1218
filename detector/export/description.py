"""What an exported file says about itself: what goes in, what comes out, what the labels mean."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from detector.categories import CategoryMap
from detector.config import Config, config_to_dict
from detector.model.faster_rcnn import FasterRCNN
from detector.version import __version__
from detector.weights.files import carried_settings

KEY = "detector"  # of the whole, in an ONNX file and in OpenVINO's rt_info
FORMAT_VERSION = 1


def describe(
    config: Config, categories: CategoryMap, provenance: Mapping[str, Any], smallest_side: int
) -> dict[str, Any]:
    """Plain containers that a client needs to prepare a picture and to read the answer.

    Args:
        smallest_side: of the input image, in pixels.
    """
    pixels = config.input
    return {
        "format": FORMAT_VERSION,
        "written_by": f"faster-rcnn {__version__}",
        "input": {
            "image": "float32 [1, 3, height, width], RGB, 0 to 255: mean and deviation are inside",
            "score_threshold": "float32 scalar: what scores more is a detection",
            "min_size": pixels.min_size_test,
            "max_size": pixels.max_size_test,
            "resize": pixels.resize,
            "smallest_side": smallest_side,
        },
        "output": {
            "boxes": "float32 [D, 4], x1 y1 x2 y2 in pixels of the image given",
            "scores": "float32 [D], descending",
            "labels": "int64 [D], 1 to K: names[label - 1]",
        },
        "score_threshold": config.model.detection.score_threshold,
        "names": categories.names,
        "categories": categories.to_coco(),
        "settings": carried_settings(config_to_dict(config)),
        "provenance": dict(provenance),
    }


def as_text(facts: Mapping[str, Any]) -> str:
    """The facts as JSON."""
    return json.dumps(facts, ensure_ascii=False, allow_nan=False)


def smallest_side(model: FasterRCNN) -> int:
    """The smallest height and width of pictures that the graph takes.

    A feature map of a single row is a special case to PyTorch's exporter, so the coarsest has two.
    """
    with torch.inference_mode():
        features = model.backbone(torch.zeros(1, 3, 64, 64, device=model.device))
    return max(stride for _, stride in features) + 1
