import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import CategoryMap
from detector.config import ConfigError
from detector.structures import Target
from detector.training.class_weights import class_weights
from detector.training.joint import build_joint

CATEGORIES = CategoryMap.from_names(["cat", "dog", "cow"])


def test_classes_have_their_weight_and_others_one() -> None:
    assert class_weights(None, CATEGORIES) is None
    weights = class_weights({"cow": 3, "background": 0.5}, CATEGORIES)
    assert weights is not None
    assert weights.tolist() == [0.5, 1, 1, 3]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"catt": 2}, "did you mean cat"),
        ({"cat": 0}, "above 0"),
        ({"cat": True}, "above 0"),
        ({"cat": "2"}, "above 0"),
        ([1, 2, 3], "write a mapping"),
    ],
)
def test_mistakes_are_refused(setting: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_weights(setting, CATEGORIES)


@pytest.mark.parametrize("in_slots", [False, True])
def test_a_weight_scales_its_classs_part_of_the_loss(in_slots: bool) -> None:
    config = tiny_config()
    images = random_batch([(96, 128)])
    boxes = torch.tensor([[8.0, 8, 60, 60], [60, 20, 120, 90]])
    target = Target(boxes=boxes, labels=torch.tensor([1, 3]))

    def loss(weights: list[float] | None) -> float:
        chosen = None if weights is None else torch.tensor(weights)
        joint = build_joint(tiny_model(config).train(), config.model, in_slots=in_slots, class_weights=chosen)
        found: float = joint(images, [target], [0])["roi_class"].item()
        return found

    plain = loss(None)
    assert loss([1.0, 1.0, 1.0, 1.0]) == pytest.approx(plain)
    of_labels = [loss([float(label == other) + 1 for other in range(4)]) - plain for label in range(4)]
    assert of_labels[2] == pytest.approx(0, abs=1e-6)
    assert all(of_labels[label] > 0 for label in (0, 1, 3))
    assert sum(of_labels) == pytest.approx(plain, rel=1e-4)
