"""Settings of detection without effect are named, with the reason."""

import pytest

from detector.config import load_config
from detector.inference.void_detection import void_detection_settings


def void(*words: str, augmented: bool = False) -> list[str]:
    config = load_config(None, [f"model.detection.{word}" for word in words])
    return void_detection_settings(config.model.detection, augmented)


def test_nothing_is_said_of_what_nobody_has_set() -> None:
    assert void() == void(augmented=True) == []
    assert void("augment.scales=[1,2]", augmented=True) == []
    assert void("merge=soft_nms_gaussian", "soft_nms_sigma=0.3") == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["augment.scales=[0.5, 1]"], "augment.scales=[0.5, 1.0]: each picture is looked at once; give --augment, or"),
        (["soft_nms_sigma=0.3"], "soft_nms_sigma=0.3: it belongs to soft_nms_gaussian, and model.detection.merge=nms."),
        (["fusion_threshold=0.3"], "fusion_threshold=0.3: it belongs to weighted_fusion"),
        (["merge=weighted_fusion", "voting_threshold=0.5"], "voting_threshold=0.5: model.detection.merge=weighted_fus"),
        (["merge=soft_nms_gaussian", "nms_threshold=0.3"], "nms_threshold=0.3: model.detection.merge=soft_nms_gaussi"),
        (["refine_keep=last"], "refine_keep=last: model.detection.refine_passes is 0."),
        (["augment.form=average", "augment.canonical_size=100"], "augment.canonical_size=100.0: it belongs to maxout"),
        (
            ["augment.form=average", "augment.resize_first=false"],
            "augment.resize_first=False: it belongs to detec",
        ),
        (["augment.form=union", "augment.max_proposals=9"], "augment.max_proposals=9: views share no proposals by the"),
        (["augment.form=detectron2", "augment.scales=[2]"], "augment.scales=[2.0]: the form detectron2 has sizes."),
        (
            ["augment.form=average", "augment.scales=[2]", "augment.sizes=[9]"],
            "augment.scales=[2.0]: model.detection.augment.sizes is given.",
        ),
        (
            ["augment.form=average", "augment.max_size=90"],
            "augment.max_size=90: it belongs to model.detection.",
        ),
    ],
)
def test_what_is_void_and_why(words: list[str], line: str) -> None:
    (said,) = void(*words)
    assert said.startswith(f"model.detection.{line}")
