"""The check that decides whether an exported file is written."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_config, tiny_model

from detector.config import InputConfig
from detector.export.check import check_sizes, compare, differ, thresholds
from detector.export.export_network import ExportNetwork
from detector.export.formats import Outputs
from detector.structures import Selection

EXPECTED = Selection(
    torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), torch.tensor([0.9, 0.80004]), torch.tensor([1, 2])
)


def outputs(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Outputs:
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)


def test_differences_within_the_tolerance_pass() -> None:
    given = outputs([[0, 0, 10.04, 10], [20, 20, 40, 40]], [0.9, 0.8], [1, 2])
    box, score, difference = differ(EXPECTED, given)
    assert difference == ""
    assert box == pytest.approx(0.04, abs=1e-4)
    assert score == pytest.approx(4e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("boxes", "scores", "labels"),
    [
        ([[0, 0, 10.06, 10], [20, 20, 40, 40]], [0.9, 0.8], [1, 2]),
        ([[0, 0, 10, 10], [20, 20, 40, 40]], [0.9, 0.7998], [1, 2]),
        ([[0, 0, 10, 10], [20, 20, 40, 40]], [0.9, 0.8], [1, 1]),
        ([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.9], [1, 1]),
        ([[0, 0, 10, 10]], [0.9], [1]),
        ([], [], []),
        ([[np.nan] * 4, [20, 20, 40, 40]], [0.9, 0.8], [1, 2]),
    ],
)
def test_larger_differences_are_named(boxes: list[list[float]], scores: list[float], labels: list[int]) -> None:
    assert differ(EXPECTED, outputs(boxes, scores, labels))[2] != ""


def test_thresholds_let_none_one_and_many_pass() -> None:
    scores = np.linspace(0.9, 0.1, 60).tolist()
    none, one, many = (sum(score > t for score in scores) for t in thresholds(scores))
    assert (none, one) == (0, 1)
    assert many >= 30
    assert thresholds([]) == [1.0]
    assert thresholds([0.5, 0.5]) == [1.0]


def test_sizes_are_four_and_none_is_too_small() -> None:
    for short in (0, 20, 800):
        sizes = check_sizes(InputConfig(min_size_test=short), 17)
        assert len(set(sizes)) == 4
        assert min(min(size) for size in sizes) >= 17


def test_one_size_is_the_configs_and_the_others_have_too_few_cells_to_take_long() -> None:
    assert check_sizes(InputConfig(), 17) == [(800, 1066), (102, 68), (68, 68), (17, 22)]
    assert check_sizes(InputConfig(min_size_test=600, max_size_test=700), 65)[0] == (600, 700)


def test_a_file_that_moves_boxes_is_caught_and_one_that_does_not_passes() -> None:
    model = tiny_model(tiny_config())
    network = ExportNetwork(model)

    passes: list[tuple[int, ...]] = []

    def right(image: np.ndarray, threshold: float) -> Outputs:
        passes.append(image.shape[2:])
        with torch.no_grad():
            boxes, scores, labels = network(torch.from_numpy(image), torch.tensor(threshold))
        return boxes.numpy(), scores.numpy(), labels.numpy()

    def wrong(image: np.ndarray, threshold: float) -> Outputs:
        boxes, scores, labels = right(image, threshold)
        return boxes + 0.06, scores, labels

    sizes = [(64, 80), (33, 40)]
    told: list[str] = []
    outcome = compare(model, right, sizes, 1, told.append)
    assert outcome.differences == []
    assert passes == [(64, 80), (33, 40), (33, 40), (33, 40)]  # a large picture takes long, and is looked at once
    assert [("64×80" in line, "33×40" in line) for line in told] == [(True, False), (False, True)]
    assert {0, 1} < set(outcome.counts)
    assert compare(model, wrong, sizes, 1).differences
    assert model.detection_settings.score_threshold == tiny_config().model.detection.score_threshold
