from dataclasses import replace

import pytest

from detector.config import Config, TrainConfig, load_config
from detector.training.run.void import void_settings

# No milestone after the end, which is said in any case.
SHORT = ["train.iterations=100", "train.milestones=[60]"]


def void(*words: str, has_val: bool = True) -> list[str]:
    return void_settings(load_config(None, [*SHORT, *words]), has_val)


def test_nothing_is_said_where_everything_has_an_effect() -> None:
    assert void() == []
    assert void_settings(Config(), has_val=True) == []
    assert void_settings(Config(), has_val=False) == []  # nobody has asked for an evaluation


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["train.schedule=cosine", "train.gamma=0.5"],
            "train.milestones=[60], train.gamma=0.5: train.schedule=cosine has no milestones.",
        ),
        (["train.milestones=[60, 100]"], "train.milestones=[100]: not before the end (train.iterations=100)."),
        (["train.milestones=[]", "train.gamma=0.5"], "train.gamma=0.5: no milestone comes before the end."),
        (
            ["train.warmup_iterations=0", "train.warmup_factor=0.1"],
            "train.warmup_factor=0.1: train.warmup_iterations is 0.",
        ),
        (
            ["train.evaluate_every=150"],
            "train.evaluate_every=150: the run ends at iteration 100, and is evaluated then anyway.",
        ),
        (["train.save_every=100"], "train.save_every=100: the run ends at iteration 100, and is saved then anyway."),
        (["train.evaluate_every=30", "train.patience=4"], "train.patience=4: there are only 4 evaluations."),
        (["train.evaluate_every=0", "train.patience=1"], "train.patience=1: there is only 1 evaluation."),
        (["data.augment.crop_min_scale=0.7"], "data.augment.crop_min_scale=0.7: data.augment.crop is 0."),
        (
            ["data.augment.crop=0.5", "data.augment.crop_min_scale=1"],
            "data.augment.crop=0.5: data.augment.crop_min_scale=1 leaves nothing to cut off.",
        ),
        (["data.augment.hue=0.1"], "data.augment.hue=0.1: data.augment.color_jitter is 0."),
        (
            ["model.weights=R101-C4-3x", "model.backbone.weights=R-101"],
            "model.backbone.weights=R-101: model.weights has the backbone too.",
        ),
        (
            ["model.backbone.weights_channels=bgr"],
            "model.backbone.weights_channels=bgr: it is about the file of model.backbone.weights, which is not read.",
        ),
        (["train.norm_weight_decay=0.1"], "train.norm_weight_decay=0.1: all norms are constants."),
        (
            ["model.roi.pooling=pool", "model.roi.sampling_ratio=2"],
            "model.roi.sampling_ratio=2: model.roi.pooling=pool takes no samples.",
        ),
        (
            ["model.roi.train_refinement=true"],
            "model.roi.train_refinement=True: the head will not look again (model.detection.refine_passes is 0).",
        ),
        (
            ["model.roi.fc_layers=1", "model.roi.conv_norm=batch"],
            "model.roi.conv_norm=batch, model.roi.fc_layers=1: model.kind=c4 has conv5_x on every RoI.",
        ),
        (
            ["model.kind=fpn", "model.roi.conv_channels=8"],
            "model.roi.conv_channels=8: model.roi.conv_layers is 0.",
        ),
        (
            ["model.kind=dc5", "model.fpn.norm=batch", "model.roi.level_rule=torchvision"],
            "model.fpn.norm=batch, model.roi.level_rule=torchvision: model.kind=dc5 has one feature map.",
        ),
        (
            ["model.backbone.depth=18", "model.backbone.groups=4"],
            "model.backbone.groups=4: model.backbone.depth=18 has no bottlenecks.",
        ),
    ],
)
def test_what_is_without_effect_is_said_with_the_reason(words: list[str], line: str) -> None:
    assert void(*words) == [line]


def test_what_is_about_scoring_needs_a_val_split() -> None:
    words = ["train.patience=2", "train.evaluate_every=10", "train.sample_pictures=0"]
    assert void(*words) == []
    assert void(*words, has_val=False) == [
        "train.evaluate_every=10, train.patience=2, train.sample_pictures=0: there is no val split."
    ]


def test_what_has_an_effect_is_not_called_void() -> None:
    assert void("model.roi.train_refinement=true", "model.detection.refine_passes=1") == []
    assert void("train.evaluate_every=30", "train.patience=3") == []
    assert void("data.augment.crop=0.5", "data.augment.crop_min_scale=0.7") == []
    assert void("data.augment.color_jitter=0.5", "data.augment.hue=0.1") == []
    assert void("model.backbone.weights=R-101", "model.backbone.weights_channels=bgr") == []
    assert void("train.norm_weight_decay=0.1", "model.backbone.norm=group") == []
    assert void("model.kind=fpn", "model.fpn.norm=batch", "train.norm_weight_decay=0.1") == []
    assert void("model.kind=dc5", "model.roi.conv_layers=1", "model.roi.conv_norm=batch") == []
    steps = replace(Config(), train=TrainConfig(milestones=(60_000, 90_000)))
    (late,) = void_settings(steps, has_val=True)
    assert late == "train.milestones=[90000]: not before the end (train.iterations=90000)."
