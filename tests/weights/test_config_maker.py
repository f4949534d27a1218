"""A config of other weights is told apart, and the message says what to give instead."""

from pathlib import Path

import pytest
import torch
from hostile import torch_file

from detector.errors import UserError
from detector.weights.config_maker import config_maker
from detector.weights.resolve import resolve_weights

CONFIGS = {
    "detectron2": ("c.yaml", "MODEL:\n  MASK_ON: false\n"),
    "detectron2 by its base": ("c.yaml", "_BASE_: Base-RCNN-FPN.yaml\n"),
    "mmdetection": ("c.yaml", "model:\n  type: FasterRCNN\n"),
    "mmdetection in Python": ("c.py", "model = dict(type='FasterRCNN')\n"),
    "this project": ("c.yaml", "base: r50fpn_coco_1x.yaml\nmodel:\n  num_classes: 3\n"),
}
WEIGHTS = {
    "detectron2": {"proposal_generator.rpn_head.conv.weight": torch.ones(1)},
    "mmdetection": {"rpn_head.rpn_conv.weight": torch.ones(1), "roi_head.bbox_head.fc_cls.weight": torch.ones(1)},
    "this project": {"conv1.weight": torch.ones(1), "layer1.0.conv1.weight": torch.ones(1)},  # torchvision's names
}


@pytest.mark.parametrize("name", CONFIGS)
def test_whose_a_config_is(name: str, tmp_path: Path) -> None:
    file, text = CONFIGS[name]
    (tmp_path / file).write_text(text)
    assert config_maker(tmp_path / file) == name.partition(" by ")[0].partition(" in ")[0]


@pytest.mark.parametrize("text", ["", "- 1\n", "a: 1\n", "{", "model:\n  type: X\n  type: Y\n"])
def test_what_does_not_say_is_for_its_reader_to_refuse(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert config_maker(tmp_path / "c.yaml") is None
    assert config_maker(tmp_path / "none.yaml") is None


@pytest.mark.parametrize("of", WEIGHTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_another_make_is_refused_with_the_remedy(name: str, of: str, tmp_path: Path) -> None:
    file, text = CONFIGS[name]
    maker = name.partition(" by ")[0].partition(" in ")[0]
    if maker == of:
        return
    (tmp_path / file).write_text(text)
    (tmp_path / "w.pth").write_bytes(torch_file(WEIGHTS[of]))
    with pytest.raises(UserError, match=rf"{file}: is a config of {maker}, and .*w\.pth holds .*; (give|leave) "):
        resolve_weights(tmp_path / "w.pth", tmp_path / file)
