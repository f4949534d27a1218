"""The defaults are the lineage's numbers, and what is out of range is refused with the key's name."""

import dataclasses
import typing
from typing import Any

import pytest

from detector.config import (
    AugmentConfig,
    BackboneConfig,
    Config,
    ConfigError,
    DataConfig,
    DetectionConfig,
    InputConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
    TrainConfig,
)
from detector.errors import UserError


def test_the_defaults_are_those_of_the_published_resnet_101_c4() -> None:
    config = Config()
    backbone, rpn, roi, detection = (
        config.model.backbone,
        config.model.rpn,
        config.model.roi,
        config.model.detection,
    )
    assert (backbone.depth, backbone.norm, backbone.stride_in_1x1, backbone.freeze_stages) == (
        101,
        "frozen_batch",
        True,
        2,
    )
    assert rpn.anchor_sizes == (32, 64, 128, 256, 512)
    assert rpn.anchor_ratios == (0.5, 1, 2)
    assert (rpn.anchor_offset, rpn.anchor_rounding) == (0, False)
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert (rpn.positive_iou, rpn.negative_iou) == (0.7, 0.3)
    assert (rpn.pre_nms_top_n_train, rpn.post_nms_top_n_train) == (12000, 2000)
    assert (rpn.pre_nms_top_n_test, rpn.post_nms_top_n_test) == (6000, 1000)
    assert (rpn.nms_threshold, rpn.min_size, rpn.smooth_l1_beta) == (0.7, 0, 0)
    assert rpn.delta_weights == (1, 1, 1, 1)
    assert (roi.batch_size_per_image, roi.positive_fraction, roi.positive_iou) == (512, 0.25, 0.5)
    assert (roi.pooling, roi.pooled_size, roi.sampling_ratio, roi.aligned) == ("align", 14, 0, True)
    assert (roi.delta_weights, roi.smooth_l1_beta) == ((10, 10, 5, 5), 0)
    assert (detection.score_threshold, detection.nms_threshold, detection.max_per_image) == (0.05, 0.5, 100)
    assert config.input.pixel_mean == (123.675, 116.28, 103.53)
    assert config.input.pixel_std == (1, 1, 1)
    assert config.input.min_size_train == (640, 672, 704, 736, 768, 800)
    assert (config.input.min_size_test, config.input.max_size_train, config.input.max_size_test) == (800, 1333, 1333)
    assert (config.input.resize, config.input.pad_to_multiple) == ("pil", 1)
    train = config.train
    assert (train.batch_size, train.learning_rate, train.momentum, train.weight_decay) == (16, 0.02, 0.9, 1e-4)
    assert (train.iterations, train.milestones, train.gamma) == (90_000, (60_000, 80_000), 0.1)
    assert (train.warmup_iterations, train.warmup_factor, train.clip_gradient_norm) == (1000, 0.001, None)


@pytest.mark.parametrize(
    ("cls", "values", "key"),
    [
        (BackboneConfig, {"depth": 20}, "model.backbone.depth=20: choose 18, 34, 50, 101 or 152."),
        (BackboneConfig, {"freeze_stages": 6}, "model.backbone.freeze_stages"),
        (BackboneConfig, {"freeze_stages": -1}, "model.backbone.freeze_stages"),
        (BackboneConfig, {"width": 0}, "model.backbone.width=0: choose 1 to 512."),
        (BackboneConfig, {"width": 10**6}, "model.backbone.width=1000000: choose 1 to 512."),
        (BackboneConfig, {"stem_channels": 0}, "model.backbone.stem_channels"),
        (RPNConfig, {"anchor_sizes": ()}, "model.rpn.anchor_sizes has 0 values: give 1 to 32."),
        (RPNConfig, {"anchor_sizes": (32.0,) * 10**6}, "model.rpn.anchor_sizes has 1000000 values: give 1 to 32."),
        (RPNConfig, {"anchor_sizes": (32.0, 1e300)}, "model.rpn.anchor_sizes[1]=1e+300: choose 0.1 to 100000."),
        (RPNConfig, {"anchor_sizes": (float("nan"),)}, "model.rpn.anchor_sizes[0]=nan: choose 0.1 to 100000."),
        (RPNConfig, {"pre_nms_top_n_test": 2**62}, "model.rpn.pre_nms_top_n_test=4611686018427387904: choose 1 to"),
        (RPNConfig, {"anchor_sizes": (32.0, 0.0)}, "model.rpn.anchor_sizes"),
        (RPNConfig, {"anchor_ratios": ()}, "model.rpn.anchor_ratios"),
        (RPNConfig, {"anchor_ratios": (-1.0,)}, "model.rpn.anchor_ratios"),
        (RPNConfig, {"negative_iou": 0.8}, "model.rpn.negative_iou=0.8 must not exceed"),
        (RPNConfig, {"positive_iou": 1.1}, "model.rpn.positive_iou=1.1: choose 0 to 1."),
        (RPNConfig, {"positive_fraction": 0.0}, "model.rpn.positive_fraction"),
        (RPNConfig, {"batch_size_per_image": 0}, "model.rpn.batch_size_per_image"),
        (RPNConfig, {"pre_nms_top_n_train": 0}, "model.rpn.pre_nms_top_n_train"),
        (RPNConfig, {"pre_nms_top_n_test": 0}, "model.rpn.pre_nms_top_n_test"),
        (RPNConfig, {"post_nms_top_n_train": 0}, "model.rpn.post_nms_top_n_train"),
        (RPNConfig, {"post_nms_top_n_test": 0}, "model.rpn.post_nms_top_n_test"),
        (RPNConfig, {"delta_weights": (1.0, 1.0, 1.0, 0.0)}, "model.rpn.delta_weights"),
        (RPNConfig, {"channels": 0}, "model.rpn.channels"),
        (RPNConfig, {"nms_threshold": 7.0}, "model.rpn.nms_threshold"),
        (RPNConfig, {"smooth_l1_beta": -0.1}, "model.rpn.smooth_l1_beta"),
        (RPNConfig, {"min_size": -1.0}, "model.rpn.min_size"),
        (RoIConfig, {"pooled_size": 0}, "model.roi.pooled_size"),
        (RoIConfig, {"positive_fraction": 1.5}, "model.roi.positive_fraction"),
        (RoIConfig, {"positive_iou": 0.0}, "model.roi.positive_iou"),
        (RoIConfig, {"batch_size_per_image": 0}, "model.roi.batch_size_per_image"),
        (RoIConfig, {"delta_weights": (0.0, 1.0, 1.0, 1.0)}, "model.roi.delta_weights"),
        (RoIConfig, {"sampling_ratio": -1}, "model.roi.sampling_ratio"),
        (RoIConfig, {"sampling_ratio": 10**6}, "model.roi.sampling_ratio=1000000: choose 0 to 16."),
        (RoIConfig, {"smooth_l1_beta": -1.0}, "model.roi.smooth_l1_beta"),
        (DetectionConfig, {"score_threshold": 50.0}, "model.detection.score_threshold"),
        (DetectionConfig, {"nms_threshold": -0.1}, "model.detection.nms_threshold"),
        (DetectionConfig, {"max_per_image": 0}, "model.detection.max_per_image"),
        (DetectionConfig, {"min_size": -1.0}, "model.detection.min_size"),
        (ModelConfig, {"num_classes": 0}, "model.num_classes"),
        (InputConfig, {"min_size_train": ()}, "input.min_size_train"),
        (InputConfig, {"min_size_train": (-1,)}, "input.min_size_train[0]=-1: choose 0 to 20000."),
        (InputConfig, {"min_size_test": -1}, "input.min_size_test"),
        (InputConfig, {"max_size_test": 0}, "input.max_size_test"),
        (InputConfig, {"pixel_std": (0.0, 1.0, 1.0)}, "input.pixel_std"),
        (InputConfig, {"pad_to_multiple": 0}, "input.pad_to_multiple"),
        (InputConfig, {"pad_to_multiple": 10**7}, "input.pad_to_multiple=10000000: choose 1 to 1024."),
        (InputConfig, {"pixel_mean": (float("inf"), 0.0, 0.0)}, "input.pixel_mean[0]=inf"),
        (AugmentConfig, {"horizontal_flip": 1.5}, "data.augment.horizontal_flip"),
        (AugmentConfig, {"crop_min_scale": 0.0}, "data.augment.crop_min_scale"),
        (AugmentConfig, {"contrast": -0.1}, "data.augment.contrast"),
        (AugmentConfig, {"hue": 0.6}, "data.augment.hue"),
        (DataConfig, {"num_workers": -1}, "data.num_workers"),
        (TrainConfig, {"iterations": 0}, "train.iterations"),
        (TrainConfig, {"batch_size": 0}, "train.batch_size"),
        (TrainConfig, {"accumulate": 0}, "train.accumulate"),
        (TrainConfig, {"learning_rate": 0.0}, "train.learning_rate"),
        (TrainConfig, {"reference_batch_size": 0}, "train.reference_batch_size"),
        (TrainConfig, {"momentum": 1.0}, "train.momentum"),
        (TrainConfig, {"weight_decay": -1e-4}, "train.weight_decay"),
        (TrainConfig, {"gamma": 0.0}, "train.gamma"),
        (TrainConfig, {"milestones": (80, 60)}, "train.milestones"),
        (TrainConfig, {"warmup_iterations": -1}, "train.warmup_iterations"),
        (TrainConfig, {"warmup_factor": 2.0}, "train.warmup_factor"),
        (TrainConfig, {"ema_decay": 1.0}, "train.ema_decay"),
        (TrainConfig, {"clip_gradient_norm": 0.0}, "train.clip_gradient_norm"),
        (TrainConfig, {"keep_checkpoints": 1}, "train.keep_checkpoints"),
        (TrainConfig, {"log_every": 0}, "train.log_every"),
        (TrainConfig, {"evaluate_every": -1}, "train.evaluate_every"),
        (TrainConfig, {"patience": 0}, "train.patience"),
        (TrainConfig, {"seed": -1}, "train.seed"),
        (TrainConfig, {"sample_pictures": -1}, "train.sample_pictures"),
        (TrainConfig, {"max_skipped_steps": -1}, "train.max_skipped_steps"),
    ],
)
def test_values_out_of_range_are_refused_with_their_key(cls: type, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        cls(**values)
    assert key in str(error.value)
    assert issubclass(ConfigError, UserError)


SECTIONS = {
    "": ModelConfig,
    "backbone": BackboneConfig,
    "rpn": RPNConfig,
    "roi": RoIConfig,
    "detection": DetectionConfig,
    "input": InputConfig,
    "augment": AugmentConfig,
    "data": DataConfig,
    "train": TrainConfig,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_no_number_is_without_limits(section: str) -> None:
    """Whoever adds a setting that is a number bounds it: a weights file of anybody's may set it."""
    cls = SECTIONS[section]
    for field in dataclasses.fields(cls):
        names = str(typing.get_type_hints(cls)[field.name])
        has_choices = field.name == "depth"
        if ("int" in names or "float" in names) and "Literal" not in names and not has_choices:
            for value in (10**30, -(10**30), float("nan"), float("inf")):
                wrong = (value,) * 3 if "tuple" in names else value
                with pytest.raises(ConfigError, match=field.name):
                    cls(**{field.name: wrong})
