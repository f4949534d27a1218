"""The folder of predictions: what is deleted, what is left alone, and what a kill leaves."""

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import UserError
from detector.inference.output_folder import OutputFolder
from detector.inference.picture_log import LIST

PICTURE = np.full((4, 5, 3), 200, np.uint8)


def test_pictures_in_the_format_of_their_suffix(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.make(ExitStack())
    for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("sub/C.JPEG", "JPEG")):
        folder.save_picture(tmp_path / "out" / name, PICTURE)
        with Image.open(tmp_path / "out" / name) as image:
            assert (image.format, image.size) == (kind, (5, 4))
    folder.save_picture(tmp_path / "out/wide.jpg", np.zeros((1, 70_000, 3), np.uint8))  # of a PNG of that name
    with Image.open(tmp_path / "out/wide.jpg") as image:
        assert image.format == "PNG"
    folder.save_results([{"score": 1.0}])
    assert json.loads((tmp_path / "out/detections.json").read_text()) == [{"score": 1.0}]


def test_only_what_a_prediction_wrote_is_deleted(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.make(ExitStack())
    for name in ("a.png", "sub/deep/b.png", "other/c.png", "d\n.png"):
        folder.save_picture(tmp_path / "out" / name, PICTURE)
    folder.save_results([])
    (tmp_path / "out/other/mine.txt").touch()
    (tmp_path / "out/mine.png").touch()
    assert folder.clear() == 4
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["out", "out/mine.png", "out/other", "out/other/mine.txt"]
    assert folder.clear() == 0


def test_a_list_reaches_no_file_outside(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.make(ExitStack())
    (tmp_path / "precious.png").touch()
    names = ["../precious.png", str(tmp_path / "precious.png"), "a\0b", 7]
    (tmp_path / "out" / LIST).write_text("\n".join(map(json.dumps, names)) + '\n"cut sho')
    assert folder.clear() == 0
    assert (tmp_path / "precious.png").is_file()


def test_an_input_is_not_deleted(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    folder.save_picture(tmp_path / "a.png", PICTURE)
    with pytest.raises(UserError, match=r"a\.png: is both an input and a picture of an earlier prediction"):
        folder.clear([tmp_path / "x" / ".." / "a.png"])
    assert (tmp_path / "a.png").is_file()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the output folder"):
        OutputFolder(tmp_path / "file").make(ExitStack())
