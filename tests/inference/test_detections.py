"""The detections of a picture as people use them: chosen, drawn, saved, cut out, and in the forms of other tools."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageShow

from detector.categories import Category, CategoryMap
from detector.datasets.pictures.read import read_image
from detector.drawing.annotate import class_color
from detector.errors import UserError
from detector.inference.detections import Detection, Detections
from detector.inference.sources import GivenPicture

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "dog"), Category(90, "traffic light")))
PICTURE = np.full((80, 100, 3), (10, 20, 30), np.uint8)
BOXES = [[10.0, 20.0, 30.5, 60.0], [0.25, 2.0, 3.0, 4.0], [60.0, 40.0, 100.0, 80.0]]
SCORES = [0.875, 0.75, 0.5]
LABELS = [3, 1, 2]


def made(count: int = 3, picture: GivenPicture | None = None) -> Detections:
    return Detections(
        torch.tensor(BOXES[:count]).reshape(-1, 4),
        torch.tensor(SCORES[:count]),
        torch.tensor(LABELS[:count], dtype=torch.int64),
        (80, 100),
        CATEGORIES,
        picture,
    )


@pytest.fixture
def detections() -> Detections:
    return made(picture=GivenPicture(PICTURE))


def test_one_at_a_time(detections: Detections) -> None:
    assert [(one.name, one.score) for one in detections] == [("traffic light", 0.875), ("cat", 0.75), ("dog", 0.5)]
    assert detections[0] == Detection("traffic light", 0.875, (10.0, 20.0, 30.5, 60.0), 3, 90)
    assert detections[-1] == detections[2] == list(detections)[2] == detections[torch.tensor(2)]
    assert detections[np.int64(1)].category_id == 3
    for beyond in (3, -4):
        with pytest.raises(IndexError, match=f"there is no detection {beyond}: the picture has 3"):
            detections[beyond]
    assert list(made(0)) == []


@pytest.mark.parametrize(
    ("which", "names"),
    [
        (slice(1, None), ["cat", "dog"]),
        (slice(None, None, -1), ["dog", "cat", "traffic light"]),
        (slice(5, 9), []),
        (torch.tensor([True, False, True]), ["traffic light", "dog"]),
        (np.array([False, True, False]), ["cat"]),
        ([True, True, False], ["traffic light", "cat"]),
        ([2, 0], ["dog", "traffic light"]),
        (torch.tensor([-1]), ["dog"]),
        (np.array([1, 1]), ["cat", "cat"]),
        ([], []),
    ],
)
def test_some_of_them(detections: Detections, which: Any, names: list[str]) -> None:
    some = detections[which]
    assert isinstance(some, Detections)
    assert some.names == names
    assert some.boxes.shape == (len(names), 4)
    assert some.image_size == (80, 100)
    assert some.draw().shape == (80, 100, 3)  # it knows its picture still


def test_what_does_not_choose(detections: Detections) -> None:
    with pytest.raises(IndexError, match="a mask of 2 values cannot choose among 3"):
        detections[torch.tensor([True, False])]
    with pytest.raises(IndexError, match="no detection 3"):
        detections[[0, 3]]
    for which in ("cat", 1.0, [0.5], torch.ones(3, 1, dtype=torch.bool), None, True):
        with pytest.raises(TypeError, match="indexed by a number, a slice, a mask"):
            detections[which]  # type: ignore[call-overload]


def test_a_mask_by_score_and_one_by_class(detections: Detections) -> None:
    assert detections[detections.scores > 0.6].names == ["traffic light", "cat"]
    assert detections[detections.labels == 2].names == ["dog"]
    assert detections.of_classes(["dog", 3]).names == ["traffic light", "dog"]
    with pytest.raises(UserError, match="there is no class 'dag'; did you mean 'dog'"):
        detections.of_classes(["dag"])
    with pytest.raises(UserError, match="there is no class 4; there are 3 cat, 7 dog, 90 traffic light"):
        detections.of_classes([4])


def test_equal_ones_are_equal_and_others_are_not(detections: Detections) -> None:
    assert detections == made()
    assert detections[:0] == made(0)
    assert made(0) in [detections, made()[:0]]
    for other in (detections[::-1], detections[:2], detections.at_least(0.6), replace(detections, image_size=(80, 99))):
        assert detections != other
    assert detections != 3


def test_repr_stays_short() -> None:
    assert repr(made()) == "Detections(3 in 80×100: traffic light 0.88, cat 0.75, dog 0.50)"
    assert repr(made(0)) == "Detections(0 in 80×100: nothing)"
    assert repr(made()[[0] * 50 + [1] * 30 + [2] * 20]) == "Detections(100 in 80×100: 50 traffic light, 30 cat, 20 dog)"


def test_drawing_without_tags_with_wide_lines_and_of_some_classes(detections: Detections) -> None:
    whole = detections.draw()
    alone = detections.draw(labels=False)
    assert (alone != PICTURE).any(axis=2).sum() < (whole != PICTURE).any(axis=2).sum()
    for left, top, right, bottom in ((10, 20, 30, 60), (0, 2, 3, 4), (60, 40, 100, 80)):
        assert (alone[top:bottom, left:right] != PICTURE[0, 0]).any()
    outside = alone.copy()
    for left, top, right, bottom in ((10, 20, 30, 60), (0, 2, 3, 4), (60, 40, 100, 80)):
        outside[top:bottom, left:right] = PICTURE[0, 0]
    assert np.array_equal(outside, PICTURE)  # boxes only
    wide = detections.draw(labels=False, line_width=5)
    assert (wide[22:58, 10:15] == class_color(3)).all()
    dogs = detections.draw(labels=False, classes=["dog"])
    assert (dogs[40, 60:100] == class_color(2)).all()
    assert np.array_equal(dogs[:40], PICTURE[:40])  # nothing of the others
    with pytest.raises(UserError, match="line_width=0: choose 1"):
        detections.draw(line_width=0)
    with pytest.raises(UserError, match="channels='RGB'"):
        detections.draw(channels="RGB")  # type: ignore[arg-type]


def test_colours_come_back_in_the_order_that_was_predicted_on() -> None:
    bgr = np.ascontiguousarray(PICTURE[..., ::-1])
    of_opencv = made(picture=GivenPicture(bgr, "bgr"))
    expected = made(picture=GivenPicture(PICTURE)).draw()
    assert np.array_equal(of_opencv.draw(), expected[..., ::-1])
    assert np.array_equal(of_opencv.draw(channels="rgb"), expected)
    assert np.array_equal(of_opencv.draw(bgr), expected[..., ::-1])
    assert np.array_equal(made().draw(bgr, "bgr"), expected[..., ::-1])
    assert np.array_equal(of_opencv.crop()[0], bgr[20:60, 10:31])


def test_saving(detections: Detections, tmp_path: Path) -> None:
    detections.save(tmp_path / "new" / "drawn.png")
    assert np.array_equal(read_image(tmp_path / "new" / "drawn.png"), detections.draw())
    bgr = made(picture=GivenPicture(np.ascontiguousarray(PICTURE[..., ::-1]), "bgr"))
    bgr.save(str(tmp_path / "bgr.png"), labels=False)
    assert np.array_equal(read_image(tmp_path / "bgr.png"), detections.draw(labels=False))
    made().save(tmp_path / "given.jpg", PICTURE, classes=["dog"])
    assert read_image(tmp_path / "given.jpg").shape == (80, 100, 3)
    with pytest.raises(UserError, match=r"drawn\.txt: a picture is written as \.png, \.jpg"):
        detections.save(tmp_path / "drawn.txt")
    with pytest.raises(UserError, match="do not know their picture; give it"):
        made().save(tmp_path / "unknown.png")


def test_cutting_out(detections: Detections) -> None:
    parts = detections.crop()
    assert [part.shape for part in parts] == [(40, 21, 3), (2, 3, 3), (40, 40, 3)]
    assert parts[0].base is None  # a copy, which does not keep the picture
    assert [part.shape for part in detections.crop(margin=5)] == [(50, 31, 3), (9, 8, 3), (45, 45, 3)]
    with pytest.raises(UserError, match="margin=-1"):
        detections.crop(margin=-1)
    edge = made(1)
    edge.boxes[:] = torch.tensor([99.9, 79.9, 100.0, 80.0])
    assert [part.shape for part in edge.crop(PICTURE)] == [(1, 1, 3)]


def test_a_picture_that_was_exchanged_is_not_drawn_on(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    detections = made(picture=GivenPicture(tmp_path / "a.png"))
    assert detections.draw().shape == (80, 100, 3)
    Image.fromarray(PICTURE[:40]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="no longer the one"):
        detections.draw()


def test_notebooks_show_the_picture(detections: Detections, tmp_path: Path) -> None:
    shown = detections._repr_png_()
    assert shown is not None
    assert np.array_equal(np.array(Image.open(io.BytesIO(shown))), detections.draw())
    assert made()._repr_png_() is None  # its text stands for it
    assert made(picture=GivenPicture(tmp_path / "gone.png"))._repr_png_() is None
    large = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), (100, 4000), CATEGORIES)
    large = Detections(
        *(large.boxes, large.scores, large.labels, large.image_size, CATEGORIES),
        GivenPicture(np.zeros((100, 4000, 3), np.uint8)),
    )
    assert Image.open(io.BytesIO(large._repr_png_() or b"")).size == (1600, 40)


def test_showing_on_the_screen(detections: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    shown: list[Image.Image] = []
    monkeypatch.setattr(ImageShow, "show", lambda image: bool(shown.append(image)) or True)
    detections.show(labels=False)
    assert np.array_equal(np.array(shown[0]), detections.draw(labels=False))
    monkeypatch.setattr(ImageShow, "show", lambda _: False)
    with pytest.raises(UserError, match=r"no program here that shows pictures; write it to a file with \.save"):
        detections.show()


def test_plain_lists(detections: Detections) -> None:
    plain = detections.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain == {
        "boxes": BOXES,
        "scores": SCORES,
        "labels": LABELS,
        "names": ["traffic light", "cat", "dog"],
        "category_ids": [90, 3, 7],
        "image_size": [80, 100],
    }
    assert made(0).to_dict()["boxes"] == []


def test_label_studio(detections: Detections) -> None:
    task = detections[:1].to_label_studio("/data/a.png", model_version="run 3")
    assert task["data"] == {"image": "/data/a.png"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("run 3", 0.875)
    (region,) = prediction["result"]
    assert region["value"] == {
        "x": 10.0,
        "y": 25.0,
        "width": 20.5,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["traffic light"],
    }
    assert (region["from_name"], region["to_name"], region["type"]) == ("label", "image", "rectanglelabels")
    assert (region["original_width"], region["original_height"], region["score"]) == (100, 80, 0.875)
    assert made(2, GivenPicture("folder/b.jpg")).to_label_studio()["data"] == {"image": "folder/b.jpg"}
    assert made(0).to_label_studio("c")["predictions"][0]["result"] == []


def test_pandas(detections: Detections) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    table = detections.to_dataframe()
    assert list(table.columns) == ["name", "score", "x1", "y1", "x2", "y2", "label", "category_id"]
    assert table["name"].tolist() == ["traffic light", "cat", "dog"]
    assert table[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == BOXES
    assert table["category_id"].tolist() == [90, 3, 7]
    assert len(made(0).to_dataframe()) == 0


def test_supervision(detections: Detections) -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    converted = detections.to_supervision()
    assert converted.xyxy.tolist() == BOXES
    assert converted.confidence.tolist() == SCORES
    assert converted.class_id.tolist() == [2, 0, 1]
    assert converted.data["class_name"].tolist() == ["traffic light", "cat", "dog"]
    converted.xyxy[:] = 0
    assert detections.boxes.tolist() == BOXES  # a copy
    assert len(made(0).to_supervision()) == 0


@pytest.mark.parametrize(("name", "method"), [("pandas", "to_dataframe"), ("supervision", "to_supervision")])
def test_a_library_that_is_not_there(
    detections: Detections, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"needs the library {name}, which is not installed; run `pip install {name}`"):
        getattr(detections, method)()
