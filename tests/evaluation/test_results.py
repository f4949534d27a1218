"""Results files."""

from pathlib import Path

import pytest

from detector.errors import UserError
from detector.evaluation.results import read_results, write_results


def test_round_trip_is_exact(tmp_path: Path) -> None:
    detections = [{"image_id": 3, "category_id": 90, "bbox": [0.1, 1 / 3, 2e-7, 1e5], "score": 0.1 + 0.2}]
    path = tmp_path / "detections.json"
    write_results(path, detections)
    assert read_results(path) == detections
    write_results(path, [])
    assert read_results(path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["detections.json"]


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"annotations": []}')
    with pytest.raises(UserError, match="not a COCO results file"):
        read_results(path)
    path.write_text("[{}, 3]")
    with pytest.raises(UserError, match="entry 1 is not a JSON object"):
        read_results(path)
    with pytest.raises(UserError, match="cannot read the detections"):
        read_results(tmp_path / "absent.json")
