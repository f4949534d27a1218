"""What a run says at its end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_run import tiny_config, write_dataset

from detector.datasets.formats.open_dataset import open_dataset
from detector.evaluation.coco_eval import CocoMetrics
from detector.evaluation.ground_truth import ground_truth_of
from detector.training.report.logs import RunLog
from detector.training.run.finish import report_evaluation
from detector.training.run.validation import Evaluation


def test_labels_to_look_at_are_drawn_from_pictures_as_the_network_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_dataset(tmp_path / "data", val=1)
    words = dict(word.split("=") for word in settings)
    dataset = open_dataset("coco", words["data.val_annotations"], words["data.val_images"])
    category = dataset.categories.to_coco()[0]["id"]
    unlabelled: dict[str, Any] = {"image_id": 1, "category_id": category, "bbox": [0.0, 0.0, 6.0, 5.0], "score": 0.99}
    evaluation = Evaluation(CocoMetrics(*[0.25] * 12, per_class=()), [unlabelled], {})
    with RunLog(tmp_path, rank=0) as log:
        run: Any = SimpleNamespace(output=tmp_path, config=tiny_config(settings, "input.max_pixels=9"), log=log)
        report_evaluation(run, evaluation, ground_truth_of(dataset), dataset)
    assert "more than the 9 allowed" in capsys.readouterr().out
