"""Proposed anchors fit no fewer boxes than the defaults, on sets of every kind."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.shapes import scene
from detector.training.fitted.anchor_fit import RATIOS, SIZES, fit_of, propose, resized_boxes
from detector.training.fitted.facts import facts_of

SETS = ("shapes", "bccd", "coco_excerpt", "tiny", "tall", "huge")


def boxes_of(name: str, shared: Path) -> np.ndarray:
    """[B, 2] (height, width), pixels of the input image at the defaults' test size; of the shapes, as they are."""
    rng = np.random.default_rng(0)
    if name == "shapes":
        found = [a.box[3:1:-1] for index in range(12) for a in scene.render_scene(1, index)[1]]
        return np.array(found, np.float64)
    if name == "tiny":
        return rng.uniform(3, 12, (300, 2))
    if name == "tall":
        width = rng.uniform(8, 30, 300)
        return np.stack((width * rng.uniform(5, 9, 300), width), axis=1)
    if name == "huge":
        return rng.uniform(500, 1100, (300, 2))
    files = {"bccd": ("instances_train.json", "images"), "coco_excerpt": ("instances_train2017.json", "train2017")}
    annotations, images = files[name]
    folder = shared / "data" / name
    facts = facts_of(open_dataset("coco", folder / "annotations" / annotations, folder / images))
    return resized_boxes(facts.boxes, facts.sizes, 800, 1333, "pil")


@pytest.mark.parametrize("octaves", [False, True], ids=["sizes", "octaves"])
@pytest.mark.parametrize("name", SETS)
def test_recall_is_no_lower_than_that_of_the_defaults(name: str, octaves: bool, shared: Path) -> None:
    boxes = boxes_of(name, shared)
    default, best = propose(boxes, octaves)
    assert best.recall50 >= default.recall50
    assert best.recall70 >= default.recall70
    assert (len(best.sizes), len(best.ratios)) == (len(SIZES), len(RATIOS))
    assert list(best.sizes) == sorted(set(best.sizes))
    assert fit_of(boxes, best.sizes, best.ratios) == best
    if name in ("tiny", "tall", "huge") and not octaves:
        assert best.recall70 > default.recall70 + 0.1
        assert best.recall50 >= 0.9


def test_boxes_of_one_size_and_none_at_all_are_no_trouble() -> None:
    default, best = propose(np.full((5, 2), 21.0))
    assert best.recall70 == 1.0
    assert default.recall50 == 0.0
    default, best = propose(np.empty((0, 2)))
    assert best == default
    assert (best.sizes, best.ratios) == (SIZES, RATIOS)


def test_recall_counts_boxes_that_an_anchor_fits() -> None:
    fit = fit_of(np.array([[32.0, 32], [64, 16], [32, 33], [8, 8]]), [32], [1.0])
    assert fit.recall50 == 0.5
    assert fit.recall70 == 0.5
