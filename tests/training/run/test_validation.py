import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from detector.datasets.loading.batch import TrainingBatch
from detector.evaluation.coco_eval import ClassMetrics, CocoMetrics
from detector.structures import ImageBatch, Target
from detector.training.report.logs import RunLog
from detector.training.run.validation import (
    Announced,
    Evaluation,
    read_evaluation,
    update_best,
    validation_losses,
    write_evaluation,
)
from detector.training.state.progress import Progress

METRICS = CocoMetrics(*[0.25] * 12, per_class=())


@pytest.mark.parametrize("undefined", [float("nan"), -1.0])
def test_an_undefined_ap_is_never_the_best(undefined: float) -> None:
    progress = Progress()
    assert not update_best(progress, 10, undefined)
    assert progress.best_ap is None
    assert update_best(progress, 20, 0.0)  # the first real number is
    assert not update_best(progress, 30, undefined)
    assert (progress.best_ap, progress.best_iteration) == (0.0, 20)
    assert progress.evaluations_without_gain == 1
    assert progress.evaluated_iteration == 30


def test_only_a_better_ap_counts_as_gain() -> None:
    progress = Progress()
    found = [update_best(progress, i, ap) for i, ap in enumerate((0.1, 0.3, 0.3, 0.2, 0.4))]
    assert found == [True, True, False, False, True]
    assert progress.evaluations_without_gain == 0
    assert (progress.best_ap, progress.best_iteration) == (0.4, 4)


class ToyJoint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, images: ImageBatch, targets: list[Target], seeds: list[int]) -> dict[str, Tensor]:
        assert not self.norm.training
        assert len(targets) == len(seeds) == 1
        return {"a": self.norm(images.pixels).mean() * 0 + float(images.image_ids[0]), "b": torch.tensor(1.0)}


def make_batch(image_id: int) -> TrainingBatch:
    images = ImageBatch(torch.ones(1, 3, 2, 2), [(2, 2)], [(2, 2)], [image_id])
    return TrainingBatch(0, images, [Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))], [0])


def test_validation_losses_are_means_and_leave_the_network_as_it_was() -> None:
    joint = ToyJoint()
    joint.train()
    joint.frozen.eval()
    before = {k: v.clone() for k, v in joint.state_dict().items()}
    found = validation_losses(joint, [make_batch(i) for i in (1, 2, 6)], torch.device("cpu"), "float32")
    assert found == {"a": 3.0, "b": 1.0}
    assert joint.norm.training
    assert not joint.frozen.training
    assert all(torch.equal(v, before[k]) for k, v in joint.state_dict().items())


def test_an_empty_split_has_no_losses() -> None:
    assert validation_losses(ToyJoint(), [], torch.device("cpu"), "float32") == {}


def test_every_batch_is_announced_and_closing_ends_the_stream() -> None:
    closed: list[bool] = []

    class Loader:
        def __len__(self) -> int:
            return 5

        def __iter__(self) -> Iterator[int]:
            try:
                yield from range(5)
            finally:
                closed.append(True)

    told: list[int] = []
    batches = Announced(Loader(), lambda: told.append(1))
    assert len(batches) == 5
    stream = iter(batches)
    assert [next(stream), next(stream)] == [0, 1]
    assert len(told) == 2
    batches.close()
    assert closed == [True]


def test_the_files_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detection = {"image_id": 1, "category_id": 2, "bbox": [0.0, 1.0, 2.0, 3.0], "score": 0.5}
    with RunLog(tmp_path, rank=0) as log:
        write_evaluation(tmp_path / "evaluation", Evaluation(METRICS, [detection], {"roi_box": 0.1}), 40, log)
        (tmp_path / "file").write_text("in the way")
        write_evaluation(tmp_path / "file", Evaluation(METRICS, [], {}), 40, log)
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert (metrics["iteration"], metrics["AP"], metrics["per_class"]) == (40, 0.25, [])
    assert metrics["validation_losses"] == {"roi_box": 0.1}
    assert json.loads((tmp_path / "evaluation/detections.json").read_text()) == [detection]
    assert "cannot write" in capsys.readouterr().out


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    per_class = (ClassMetrics(3, "cat", 0.5, 0.75, 2, 1), ClassMetrics(7, "dog", -1.0, -1.0, 0, 0))
    detection = {"image_id": 1, "category_id": 3, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    metrics = CocoMetrics(*[0.25] * 12, per_class=per_class, unreadable=("image 1: a.png: no such file.",))
    evaluation = Evaluation(metrics, [detection], {"roi_box": 0.1})
    with RunLog(tmp_path, 0) as log:
        write_evaluation(tmp_path, evaluation, 40, log)
    assert read_evaluation(tmp_path, 40) == evaluation
    assert json.loads((tmp_path / "metrics.json").read_text())["unreadable_images"] == ["image 1: a.png: no such file."]
    assert read_evaluation(tmp_path, 41) is None
    (tmp_path / "detections.json").write_text("[")
    assert read_evaluation(tmp_path, 40) is None
    assert read_evaluation(tmp_path / "nowhere", 40) is None
