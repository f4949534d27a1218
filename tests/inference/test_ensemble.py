"""Several models as one: classes are matched by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.config import Config
from detector.errors import UserError
from detector.inference.ensemble import Member, label_order
from detector.inference.load import join
from detector.inference.predictor import Predictor

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "dog"), Category(90, "fox")))
TURNED = CategoryMap((Category(1, "fox"), Category(2, "cat"), Category(5, "dog")))


def config() -> Config:
    few = {"post_nms_top_n_test": 15}
    return tiny_config(rpn=few, inputs={"min_size_test": 64, "max_size_test": 120})


def picture() -> np.ndarray:
    return random_batch([(70, 90)], 1).pixels[0].permute(1, 2, 0).numpy().copy()


def test_orders_by_name() -> None:
    assert label_order(CATEGORIES, CATEGORIES, "a", "b") is None
    assert label_order(CATEGORIES, TURNED, "a", "b") == (2, 3, 1)


def test_other_classes_are_refused_by_name() -> None:
    with pytest.raises(UserError) as error:
        label_order(CATEGORIES, CategoryMap.from_names(["cat", "dog", "hen"]), "a.safetensors", "b.safetensors")
    assert str(error.value) == (
        "b.safetensors: has other classes than a.safetensors: it lacks ['fox'] and has ['hen'] besides; models that "
        "detect together need the same classes by name."
    )
    with pytest.raises(UserError, match=r"several classes are called \['cat'\]"):
        label_order(CATEGORIES, CategoryMap.from_names(["cat", "cat", "dog"]), "a", "b")


def test_columns_are_put_into_the_order_of_the_first() -> None:
    member = Member(tiny_model(config()), config().input, (2, 3, 1))
    scores, boxes = member.translate(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.arange(12.0).reshape(1, 3, 4))
    assert scores.tolist() == [pytest.approx([0.1, 0.3, 0.4, 0.2])]
    assert boxes[0, :, 0].tolist() == [4.0, 8.0, 0.0]


def test_a_model_and_itself_under_other_labels_are_that_model() -> None:
    settings = config()
    model = tiny_model(settings)
    turned = tiny_model(settings)
    with torch.no_grad():  # the same model whose labels are fox, cat, dog
        rows = torch.tensor([0, 3, 1, 2])
        turned.roi_head.cls_score.weight.copy_(model.roi_head.cls_score.weight[rows])
        turned.roi_head.cls_score.bias.copy_(model.roi_head.cls_score.bias[rows])
        for name in ("weight", "bias"):
            values = getattr(model.roi_head.bbox_pred, name).reshape(3, 4, -1)
            getattr(turned.roi_head.bbox_pred, name).copy_(
                values[rows[1:] - 1].reshape_as(getattr(model.roi_head.bbox_pred, name))
            )
    alone = Predictor(model, settings, CATEGORIES)
    ensemble = join([alone, Predictor(turned, settings, TURNED)], ["a", "b"])
    expected, got = alone.predict(picture(), 0.2), ensemble.predict(picture(), 0.2)
    assert len(expected) > 3
    assert got.names == expected.names
    torch.testing.assert_close(got.boxes, expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(got.scores, expected.scores, atol=1e-5, rtol=0)
    assert len(alone.members) == 1  # which is as it was


def test_models_of_other_backbones_and_test_sizes_detect_together() -> None:
    few = {"post_nms_top_n_test": 15}
    first, second = config(), tiny_config(backbone={"depth": 50}, rpn=few, inputs={"min_size_test": 90})
    ensemble = join(
        [Predictor(tiny_model(c), c, CATEGORIES, fast=fast) for c, fast in ((first, True), (second, False))],
        ["a", "b"],
    )
    detections = ensemble.predict(picture(), 0.1)
    assert len(detections) > 3
    assert len(ensemble.predict(picture(), 0.1, augment=True)) > 3
    with pytest.raises(UserError, match="form detectron2 is of a single model"):
        ensemble.predict(picture(), augment="detectron2")


def test_an_ensemble_is_not_exported_as_one_of_its_models(tmp_path: Path) -> None:
    one = Predictor(tiny_model(config()), config(), CATEGORIES)
    with pytest.raises(UserError, match="an ensemble of 2 models is not exported; export each by itself"):
        join([one, one], ["a", "b"]).export(tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == []
