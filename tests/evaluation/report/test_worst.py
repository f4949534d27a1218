"""The pictures of a report: read as the network that made the detections reads them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scored_sets import content, object_

from detector.config import InputConfig
from detector.errors import UserError
from detector.evaluation.ground_truth import read_ground_truth
from detector.evaluation.report.worst import pictures_in


def test_pictures_have_the_depth_and_the_limit_of_the_network(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40, 3), 1000, np.uint16))
    show = pictures_in(tmp_path, read_ground_truth(content([object_(0)])), InputConfig(bit_depth=12, max_pixels=1200))
    shown = show(1)
    assert shown is not None
    assert shown[0, 0].tolist() == [1000 >> 4] * 3
    assert show(2) is None
    limited = pictures_in(tmp_path, read_ground_truth(content([object_(0)])), InputConfig(max_pixels=1199))
    with pytest.raises(UserError, match="more than the 1199 allowed"):
        limited(1)
