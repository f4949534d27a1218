import numpy as np
import pytest

from detector.datasets.formats.class_names import KeypointShape
from detector.datasets.formats.yolo_line import Line, ambiguous_poses, read_line
from detector.errors import UserError


def line(text: str, keypoints: KeypointShape | None = None) -> Line:
    return read_line(text.split(), "a.txt line 1", 2, keypoints)


BOX = (0.4, 0.4, 0.6, 0.6)


@pytest.mark.parametrize(
    ("text", "keypoints"),
    [
        ("1 0.5 0.5 0.2 0.2", None),
        ("1 0.5 0.5 0.2 0.2", (2, 2)),
        ("1 0.5 0.5 0.2 0.2 0.50 0.42 0.52 0.50", (2, 2)),
        ("1 0.5 0.5 0.2 0.2 0.50 0.42 2 0.52 0.50 0", (2, 3)),
        ("1 0.5 0.5 0.2 0.2 0.50 0.42 2", (1, 3)),
        ("1 0.5 0.5 0.2 0.2 -7 0.42 200 3 4 0", (2, 3)),  # points may lie anywhere
        ("1 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6", (0, 0)),  # a polygon
    ],
)
def test_boxes_with_and_without_keypoints(text: str, keypoints: KeypointShape | None) -> None:
    read = line(text, keypoints)
    assert read.label == 1
    np.testing.assert_allclose(read.corners, BOX, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "keypoints", "message"),
    [
        ("0 0.5 0.5 0.2 0.2 0.5 0.5 2", None, "has 8 numbers; expected .* with kpt_shape in data.yaml"),
        (
            "0 0.5 0.5 0.2 0.2 0.5 0.5",
            (2, 2),
            "has 7 numbers; expected .* and 4 numbers of keypoints, as kpt_shape says",
        ),
        ("0 0.1 0.1 0.2 0.2 0.1 0.2", (2, 3), "has 7 numbers; expected .* and 6 numbers of keypoints"),
        ("0 1_0 0.5 0.2 0.2", None, "are not numbers only"),
        ("0", None, "has 1 numbers"),
        ("0 50 0.5 0.2 0.2 0.5 0.5", (1, 2), "50 is not a fraction"),
    ],
)
def test_refusals(text: str, keypoints: KeypointShape | None, message: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.txt line 1: .*{message}"):
        line(text, keypoints)


POSE = "0 0.5 0.5 0.2 0.2 0.50 0.42 0.52 0.50"
POSE_WITH_VISIBILITY = "0 0.5 0.5 0.2 0.2 0.50 0.42 2 0.52 0.50 1"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([POSE], True),
        ([POSE, "1 0.5 0.5 0.2 0.2"], True),
        ([POSE, "0 0.3 0.3 0.2 0.2 0.0 0.0 0.25 0.3"], True),  # a point that is not labelled
        ([POSE_WITH_VISIBILITY], True),
        ([], False),
        (["1 0.5 0.5 0.2 0.2"], False),
        ([POSE, "0 0.1 0.2 0.5 0.1 0.3 0.9 0.2 0.2"], False),  # no box lies there
        ([POSE, "0 0.5 0.5 0.2 0.2 0.9 0.42 0.52 0.50"], False),  # a point outside of the box
        ([POSE, "0 0.4 0.4 0.5 0.4 0.4 0.5"], False),  # another number of points
    ],
)
def test_rows_that_may_be_poses(texts: list[str], expected: bool) -> None:
    assert ambiguous_poses([line(text) for text in texts]) is expected
