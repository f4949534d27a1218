import json
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.datasets.loading.batch import TrainingBatch
from detector.structures import ImageBatch, Target
from detector.training.nonfinite import RunningStatistics, TrainingDivergedError, describe_step, leave_out, summarize
from detector.training.report.logs import RunLog
from detector.training.state.progress import Progress


def make_batch(*image_ids: int) -> TrainingBatch:
    count = len(image_ids)
    images = ImageBatch(torch.zeros(count, 3, 2, 2), [(2, 2)] * count, [(2, 2)] * count, list(image_ids))
    targets = [Target(torch.tensor([[0.0, 1.0, 2.0, float(i)]]), torch.tensor([1])) for i in image_ids]
    return TrainingBatch(4, images, targets, list(image_ids))


def losses(roi_box: float) -> dict[str, torch.Tensor]:
    return {"rpn_box": torch.tensor(0.5), "roi_box": torch.tensor(roi_box)}


def test_the_line_names_pictures_boxes_losses_and_gradients() -> None:
    model = nn.Linear(1, 1)
    model.weight.grad = torch.tensor([[float("nan")]])
    model.bias.grad = torch.ones(1)
    record = describe_step(
        Progress(iteration=4), [make_batch(7), make_batch(8, 9)], [losses(1.0), losses(float("inf"))], model
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        "iteration": 5,
        "in_a_row": 1,
        "batches": [
            {"image_ids": [7], "losses": {"rpn_box": 0.5, "roi_box": 1.0}, "boxes": [[[0, 1, 2, 7]]]},
            {
                "image_ids": [8, 9],
                "losses": {"rpn_box": 0.5, "roi_box": "inf"},
                "boxes": [[[0, 1, 2, 8]], [[0, 1, 2, 9]]],
            },
        ],
        "gradients": ["weight"],
    }
    assert summarize([record]) == "roi_box = inf with images 8, 9"


def test_a_gradient_alone() -> None:
    model = nn.Linear(1, 1)
    model.weight.grad = torch.tensor([[float("nan")]])
    record = describe_step(Progress(), [make_batch(7)], [losses(1.0)], model)
    assert summarize([record]) == "the gradients of weight were not finite with images 7"


def test_steps_are_left_out_and_written_down_until_there_are_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(iteration=4)
    model = nn.Linear(1, 1)

    def fail() -> None:
        leave_out(progress, [make_batch(7)], [losses(float("nan"))], model, 3, tmp_path, log)

    with RunLog(tmp_path, rank=0) as log:
        fail()
        progress.iteration += 1
        fail()
        progress.skipped_in_a_row = 0  # a good step between
        fail()
        fail()
        with pytest.raises(
            TrainingDivergedError, match=r"3 steps in a row .* roi_box = nan with images 7; lower train\."
        ):
            fail()
    assert progress.skipped_steps == 5
    lines = [json.loads(line) for line in (tmp_path / "nonfinite.jsonl").read_text().splitlines()]
    assert [line["in_a_row"] for line in lines] == [1, 2, 1, 2, 3]
    assert "iteration 5 is left out: roi_box = nan with images 7" in capsys.readouterr().out


def test_running_statistics_survive_a_poisoned_forward_pass() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
    model(torch.randn(4, 2, 3, 3))
    statistics = RunningStatistics(model)
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    statistics.remember()
    model(torch.full((1, 2, 3, 3), float("nan")))
    assert model[0].running_mean.isnan().all()
    statistics.restore()
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())
