"""Settings of looking several times, and of merging: what is refused."""

import pytest

from detector.config import ConfigError, DetectionConfig, ViewsConfig, load_config


def test_everything_is_off_by_default() -> None:
    detection = DetectionConfig()
    assert (detection.merge, detection.voting_threshold, detection.refine_passes) == ("nms", None, 0)
    assert detection.augment.form is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["augment.form=twice"], "expected one of average, maxout, union, detectron2"),
        (["augment.scales=[0.001]"], r"model.detection.augment.scales\[0\]=0.001: choose 0.05 to 20."),
        (["augment.sizes=[0]"], r"model.detection.augment.sizes\[0\]=0: choose 1 to 20000."),
        (
            ["augment.form=maxout", "augment.sizes=[600]"],
            r"compares two sizes, and there is one \(\(600,\)\)",
        ),
        (
            ["augment.form=detectron2", "voting_threshold=0.5"],
            "detectron2 merges by NMS alone; leave model.",
        ),
        (["merge=soft"], "expected one of nms, soft_nms_linear, soft_nms_gaussian, weighted_fusion"),
        (["voting_threshold=5"], "model.detection.voting_threshold=5.0: choose 0 to 1."),
        (["refine_passes=11"], "model.detection.refine_passes=11: choose 0 to 10."),
    ],
)
def test_refusals(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"model.detection.{word}" for word in words])


@pytest.mark.parametrize("name", ["max_size", "max_proposals", "canonical_size", "scales", "sizes"])
def test_no_number_is_without_limits(name: str) -> None:
    for value in (10**30, -(10**30), float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=name):
            ViewsConfig(**{name: (value,) if name in ("scales", "sizes") else value})  # type: ignore[arg-type]
