"""MSRA's ResNets with Caffe2's names become what detectron2 makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import Comparison, ExpectEqual
from detectron2_cases import folder_id, folders_with, read_json

from detector.weights.lineages.caffe2_resnet import DROPPED, from_caffe2
from detector.weights.lineages.detectron2_config import config_from_detectron2
from detector.weights.lineages.detectron2_settings import read_settings
from detector.weights.lineages.detectron2_tensors import RENAMES
from detector.weights.remap import translate
from detector.weights.untrusted.foreign_file import read_foreign

FOLDERS = folders_with("config.yaml", "expected_state_dict.npz", "backbone.*")


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_every_tensor_is_where_detectron2_puts_it(folder: Path, expect_equal: ExpectEqual) -> None:
    (path,) = folder.glob("backbone.*")
    config = config_from_detectron2(read_settings(folder / "config.yaml"), str(folder))
    ours = from_caffe2(read_foreign(path).tensors, config, str(path))
    theirs = translate(ours, RENAMES)
    found = Comparison()
    with np.load(folder / "expected_state_dict.npz") as arrays:
        found.equal("names", sorted(theirs.values()), sorted(arrays.files))
        for name, tensor in ours.items():
            expected = torch.from_numpy(arrays[theirs[name]])
            if name == "backbone.conv1.weight":
                expected = expected.flip(1)  # theirs wants BGR, ours RGB
            found.close("tensors", tensor, expected, 0.0)
    expect_equal(found, "caffe2 backbones")


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_the_reference_left_nothing_else_unused(folder: Path) -> None:
    """What is dropped here is what was unused there."""
    unused = read_json(folder / "mapping.json")["unused_checkpoint_keys_after_renaming"]
    theirs = {"fc1000_w": "fc1000.weight", "fc1000_b": "fc1000.bias", "conv1_b": "stem.conv1.bias"}
    assert set(unused) <= {theirs[name] for name in DROPPED}
