"""The Faster R-CNN that mmdetection publishes, by the names of its configs in version 3.

Addresses, hashes and AP are those of its configs/faster_rcnn/metafile.yml and README.md; file names end with the
beginning of the SHA-256. The settings are those of configs/_base_/models, so nothing depends on what a file of 2020
carries as its config.
"""

from collections.abc import Mapping
from typing import Any

from detector.weights.published.entry import Published

OPENMMLAB = "https://download.openmmlab.com/mmdetection/v2.0"

CAFFE = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": False, "pad_size_divisor": 32}
PYTORCH = {
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "pad_size_divisor": 32,
}
# ResNeXt-101-32x8d was trained with Caffe2: BGR, with deviations.
CAFFE2 = CAFFE | {"std": [57.375, 57.12, 58.395]}

_WITH_ALL_SIZES = {"scales": [2, 4, 8, 16, 32], "strides": [16]}


def stock_config(
    kind: str, depth: int, style: str, preprocessor: Mapping[str, Any], resnext: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The part of a stock config of version 3 that detections depend on.

    Args:
        kind: c4, dc5 or fpn.
        depth: of the ResNet.
        style: pytorch or caffe.
        preprocessor: colour order, mean, deviation and padding.
        resnext: groups and channels of each, of a ResNeXt.
    """
    backbone: dict[str, Any] = {"type": "ResNet", "depth": depth, "frozen_stages": 1, "style": style}
    if kind == "c4":
        backbone |= {"num_stages": 3, "strides": (1, 2, 2), "dilations": (1, 1, 1), "out_indices": (2,)}
    if kind == "dc5":
        backbone |= {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2), "out_indices": (3,)}
    if resnext is not None:
        backbone |= {"type": "ResNeXt", "groups": resnext[0], "base_width": resnext[1]}
    channels = {"c4": 1024, "dc5": 2048, "fpn": 256}[kind]
    anchors = {"scales": [8], "strides": [4, 8, 16, 32, 64]} if kind == "fpn" else _WITH_ALL_SIZES
    box_head = {"type": "BBoxHead", "with_avg_pool": True} if kind == "c4" else {"type": "Shared2FCBBoxHead"}
    model: dict[str, Any] = {
        "type": "FasterRCNN",
        "data_preprocessor": {"type": "DetDataPreprocessor", **preprocessor},
        "backbone": backbone,
        "rpn_head": {
            "type": "RPNHead",
            "feat_channels": channels,
            "anchor_generator": {"type": "AnchorGenerator", "ratios": [0.5, 1.0, 2.0], **anchors},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": 14 if kind == "c4" else 7, "sampling_ratio": 0},
                "featmap_strides": anchors["strides"][:4],
            },
            "bbox_head": {
                **box_head,
                "num_classes": 80,
                "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]},
            },
        },
        "test_cfg": {"rpn": {"nms_pre": 1000 if kind == "fpn" else 6000, "max_per_img": 1000}, "rcnn": {}},
    }
    if kind == "fpn":
        model["neck"] = {"type": "FPN", "out_channels": channels, "num_outs": 5}
    if kind == "c4":
        model["roi_head"]["shared_head"] = {"type": "ResLayer", "depth": depth, "stage": 3, "style": style}
    resize = {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}
    return {"model": model, "test_pipeline": [{"type": "LoadImageFromFile"}, resize]}


def _published(kind: str, path: str, ap: float, depth: int, config: dict[str, Any], network: str) -> Published:
    digest = path.removesuffix(".pth")[-8:]
    return Published(
        url=f"{OPENMMLAB}/{path}",
        checksum=("sha256", digest),
        kind="mmdetection",
        depth=depth,
        settings=config,
        ap=ap,
        network=f"{network}-{kind.upper()}",
    )


def _path(stem: str, ending: str, file: str | None = None) -> str:
    """Of a file in its model's folder; `file` is its stem where it has another one than the folder."""
    return f"faster_rcnn/faster_rcnn_{stem}_coco/faster_rcnn_{file or stem}_coco{ending}.pth"


def _pytorch(path: str, ap: float, depth: int = 50) -> Published:
    return _published("fpn", path, ap, depth, stock_config("fpn", depth, "pytorch", PYTORCH), f"ResNet-{depth}")


def _caffe(kind: str, path: str, ap: float, depth: int = 50) -> Published:
    return _published(kind, path, ap, depth, stock_config(kind, depth, "caffe", CAFFE), f"ResNet-{depth}")


def _resnext(groups: int, width: int, schedule: str, ending: str, ap: float) -> Published:
    config = stock_config("fpn", 101, "pytorch", CAFFE2 if width == 8 else PYTORCH, (groups, width))
    path = _path(f"x101_{groups}x{width}d_fpn_{schedule}", ending)
    return _published("fpn", path, ap, 101, config, f"ResNeXt-101-{groups}x{width}d")


_R50 = "r50_fpn_1x"
_AMP = "fp16/faster_rcnn_r50_fpn_fp16_1x_coco/faster_rcnn_r50_fpn_fp16_1x_coco_20200204-d4dc1471.pth"

_FILES: Mapping[str, Published] = {
    "r50-caffe_c4-1x": _caffe("c4", _path("r50_caffe_c4_1x", "_20220316_150152-3f885b85"), 35.6),
    "r50-caffe-c4_ms-1x": _caffe("c4", _path("r50_caffe_c4_mstrain_1x", "_20220316_150527-db276fed"), 35.9),
    "r50-caffe-dc5_1x": _caffe("dc5", _path("r50_caffe_dc5_1x", "_20201030_151909-531f0f43"), 37.2),
    "r50-caffe-dc5_ms-1x": _caffe("dc5", _path("r50_caffe_dc5_mstrain_1x", "_20201028_233851-b33d21b9"), 37.4),
    "r50-caffe-dc5_ms-3x": _caffe("dc5", _path("r50_caffe_dc5_mstrain_3x", "_20201028_002107-34a53b2c"), 38.7),
    "r50-caffe_fpn_1x": _caffe("fpn", _path("r50_caffe_fpn_1x", "_bbox_mAP-0.378_20200504_180032-c5925ee5"), 37.8),
    "r50-caffe_fpn_ms-2x": _caffe(
        "fpn", _path("r50_caffe_fpn_mstrain_2x", "_bbox_mAP-0.397_20200504_231813-10b2de58"), 39.7
    ),
    "r50-caffe_fpn_ms-3x": _caffe("fpn", _path("r50_caffe_fpn_mstrain_3x", "_20210526_095054-1f77628b"), 39.9),
    "r101-caffe_fpn_1x": _caffe(
        "fpn", _path("r101_caffe_fpn_1x", "_bbox_mAP-0.398_20200504_180057-b269e9dd"), 39.8, 101
    ),
    "r101-caffe_fpn_ms-3x": _caffe("fpn", _path("r101_caffe_fpn_mstrain_3x", "_20210526_095742-a7ae426d"), 42.0, 101),
    "r50_fpn_1x": _pytorch(_path(_R50, "_20200130-047c8118"), 37.4),
    "r50_fpn_amp-1x": _pytorch(_AMP, 37.5),
    "r50_fpn_2x": _pytorch(_path("r50_fpn_2x", "_bbox_mAP-0.384_20200504_210434-a5d8aa15"), 38.4),
    "r50_fpn_ms-3x": _pytorch(_path("r50_fpn_mstrain_3x", "_20210524_110822-e10bd31c"), 40.3),
    "r101_fpn_1x": _pytorch(_path("r101_fpn_1x", "_20200130-f513f705"), 39.4, 101),
    "r101_fpn_2x": _pytorch(_path("r101_fpn_2x", "_bbox_mAP-0.398_20200504_210455-1d2dac9c"), 39.8, 101),
    "r101_fpn_ms-3x": _pytorch(_path("r101_fpn_mstrain_3x", "_20210524_110822-4d4d2ca8"), 41.8, 101),
    "r50_fpn_iou_1x": _pytorch(_path(_R50, "-fdd207f3", "r50_fpn_iou_1x"), 37.9),
    "r50_fpn_giou_1x": _pytorch(_path(_R50, "-0eada910", "r50_fpn_giou_1x"), 37.6),
    "r50_fpn_bounded-iou_1x": _pytorch(_path(_R50, "-98ad993b", "r50_fpn_bounded_iou_1x"), 37.4),
    "r50-tnr-pre_fpn_1x": _pytorch(_path("r50_fpn_tnr-pretrain_1x", "_20220320_085147-efedfda4"), 40.2),
    "x101-32x4d_fpn_1x": _resnext(32, 4, "1x", "_20200203-cff10310", 41.2),
    "x101-32x4d_fpn_2x": _resnext(32, 4, "2x", "_bbox_mAP-0.412_20200506_041400-64a12c0b", 41.2),
    "x101-32x4d_fpn_ms-3x": _resnext(32, 4, "mstrain_3x", "_20210524_124151-16b9b260", 42.5),
    "x101-32x8d_fpn_ms-3x": _resnext(32, 8, "mstrain_3x", "_20210604_182954-002e082a", 42.4),
    "x101-64x4d_fpn_1x": _resnext(64, 4, "1x", "_20200204-833ee192", 42.1),
    "x101-64x4d_fpn_2x": _resnext(64, 4, "2x", "_20200512_161033-5961fa95", 41.6),
    "x101-64x4d_fpn_ms-3x": _resnext(64, 4, "mstrain_3x", "_20210524_124528-26c63de6", 43.1),
}
MMDETECTION: Mapping[str, Published] = {f"faster-rcnn_{name}_coco": published for name, published in _FILES.items()}
