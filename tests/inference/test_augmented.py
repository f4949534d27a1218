"""Looking several times: what is averaged, what is merged, and that it is the same however it is executed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model, with_model

from detector.boxes import flip_horizontal
from detector.categories import CategoryMap
from detector.config import AugmentForm, ConfigError, DetectionConfig, ViewsConfig
from detector.errors import UserError
from detector.inference.augmented import AugmentedDetector, average, choose_views
from detector.inference.ensemble import Member
from detector.inference.predictor import Predictor
from detector.model.faster_rcnn import FasterRCNN
from detector.model.postprocess import MergeRule
from detector.structures import ImageBatch, Selection

CONFIG = tiny_config(rpn={"post_nms_top_n_test": 15}, inputs={"min_size_test": 64, "max_size_test": 120})
CATEGORIES = CategoryMap.from_names(["cat", "dog", "fox"])
FORMS: list[AugmentForm] = ["average", "maxout", "union", "detectron2"]
TWO_SIZES = ViewsConfig(sizes=(48, 64))


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model(CONFIG)


@pytest.fixture(scope="module")
def fast(model: FasterRCNN) -> Predictor:
    return Predictor(model, CONFIG, CATEGORIES)


@pytest.fixture(scope="module")
def plain(model: FasterRCNN) -> Predictor:
    return Predictor(model, CONFIG, CATEGORIES, fast=False)


def picture(height: int = 70, width: int = 90, seed: int = 1) -> np.ndarray:
    return random_batch([(height, width)], seed).pixels[0].permute(1, 2, 0).numpy().copy()


def originals(*pictures: np.ndarray) -> ImageBatch:
    sizes = [(p.shape[0], p.shape[1]) for p in pictures]
    pixels = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures])
    return ImageBatch(pixels, sizes, sizes, list(range(len(pictures))))


def detect(model: FasterRCNN, settings: ViewsConfig, *pictures: np.ndarray) -> list[Selection]:
    with torch.inference_mode():
        selections: list[Selection] = AugmentedDetector([Member(model, CONFIG.input)], settings)(originals(*pictures))
    return selections


def assert_close(a: Selection, b: Selection) -> None:
    torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
    assert torch.equal(a.labels, b.labels)


def test_with_everything_off_the_network_itself_detects(fast: Predictor) -> None:
    assert fast.detecting().network is fast.network
    assert fast.detecting(augment=False).network is fast.network
    assert fast.detecting().input is CONFIG.input


@pytest.mark.parametrize("form", ["average", "union"])
def test_a_single_view_is_the_network_itself(plain: Predictor, form: AugmentForm) -> None:
    expected = plain.predict(picture(), 0.1)
    got = plain.predict(picture(), 0.1, augment=ViewsConfig(form=form, horizontal_flip=False))
    assert len(expected) > 3
    torch.testing.assert_close(got.boxes, expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(got.scores, expected.scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_readable_and_fast_networks_agree(plain: Predictor, fast: Predictor, form: AugmentForm) -> None:
    settings = replace(TWO_SIZES, form=form)
    a, b = plain.predict(picture(), 0.1, augment=settings), fast.predict(picture(), 0.1, augment=settings)
    assert len(a) > 3
    torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
    assert torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("form", ["average", "maxout", "union"])
def test_a_mirrored_picture_has_mirrored_detections(model: FasterRCNN, form: AugmentForm) -> None:
    """For each view of the one is a view of the other. (Of detectron2's views other ones are padded.)"""
    settings = ViewsConfig(form=form, scales=(1.0, 2.0))
    image = picture(64, 80)  # which the network sees as it is: a resize need not be symmetric
    (there,), (mirrored,) = detect(model, settings, image), detect(model, settings, image[:, ::-1].copy())
    assert len(there) > 3
    torch.testing.assert_close(there.scores, mirrored.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(there.boxes, flip_horizontal(mirrored.boxes, 80), atol=1e-2, rtol=0)


def test_average_is_the_mean_over_views() -> None:
    ones, threes = torch.ones(2, 4), 3 * torch.ones(2, 4)
    scores, boxes = average(iter([([ones], [threes[:, None]]), ([threes], [ones[:, None]])]))
    assert torch.equal(scores[0], 2 * ones)
    assert torch.equal(boxes[0], 2 * torch.ones(2, 1, 4))


def test_proposals_of_all_views_are_scored_in_every_view(model: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    score = model.score

    def noted(features: object, boxes: list[torch.Tensor], sizes: list[tuple[int, int]]) -> object:
        asked.extend(len(b) for b in boxes)
        return score(features, boxes, sizes)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "score", noted)
    for limit, count in ((0, 60), (None, 15), (20, 20)):  # 15 of each view
        asked.clear()
        detect(model, ViewsConfig(form="average", vertical_flip=True, max_proposals=limit), picture())
        assert asked == [count] * 4


@pytest.mark.parametrize("form", FORMS)
def test_pictures_together_and_alone(model: FasterRCNN, form: AugmentForm) -> None:
    pictures = picture(seed=1), picture(seed=2)
    together = detect(model, replace(TWO_SIZES, form=form), *pictures)
    for one, selection in zip(pictures, together, strict=True):
        assert_close(selection, detect(model, replace(TWO_SIZES, form=form), one)[0])


@pytest.mark.parametrize("form", FORMS)
def test_no_candidates(form: AugmentForm) -> None:
    nothing = tiny_model(CONFIG)
    nothing.detection_settings = replace(nothing.detection_settings, score_threshold=1.0, refine_passes=1)
    with torch.inference_mode():
        (selection,) = AugmentedDetector([Member(nothing, CONFIG.input)], replace(TWO_SIZES, form=form))(
            originals(picture())
        )
    assert (selection.boxes.shape, selection.labels.dtype) == ((0, 4), torch.int64)


@pytest.mark.parametrize("form", FORMS)
def test_no_proposals(form: AugmentForm) -> None:
    nothing = tiny_model(CONFIG)
    nothing.proposal_settings = replace(nothing.proposal_settings, min_size=1000.0)
    with torch.inference_mode():
        (selection,) = AugmentedDetector([Member(nothing, CONFIG.input)], replace(TWO_SIZES, form=form))(
            originals(picture())
        )
    assert len(selection) == 0


@pytest.mark.parametrize("merge", ["nms", "soft_nms_linear", "soft_nms_gaussian", "weighted_fusion"])
def test_the_union_is_merged_by_any_rule(merge: MergeRule) -> None:
    model = tiny_model(with_model(CONFIG, detection=DetectionConfig(merge=merge, voting_threshold=0.5)))
    (selection,) = detect(model, ViewsConfig(form="union"), picture())
    assert len(selection) > 3
    assert (selection.scores[:-1] >= selection.scores[1:]).all()
    assert (selection.scores > 0.05).all()
    assert torch.isfinite(selection.boxes).all()


def test_who_asks_for_what() -> None:
    off, on = DetectionConfig(), DetectionConfig(augment=ViewsConfig(form="union", vertical_flip=True))
    assert choose_views(off, None) is None
    assert choose_views(on, False) is None
    assert choose_views(off, True) == ViewsConfig(form="average")
    assert choose_views(on, None) == choose_views(on, True) == on.augment
    assert choose_views(on, "maxout") == ViewsConfig(form="maxout", vertical_flip=True)
    assert choose_views(on, TWO_SIZES) is None  # it names no form
    with pytest.raises(UserError, match="augment='mirror': choose True, False or one of average, maxout, union, detec"):
        choose_views(off, "mirror")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="form=detectron2 merges by NMS alone"):
        choose_views(DetectionConfig(merge="soft_nms_linear"), "detectron2")
    with pytest.raises(ConfigError, match=r"form=maxout compares two sizes, and there is one"):
        choose_views(DetectionConfig(augment=ViewsConfig(scales=(1.0,))), "maxout")
