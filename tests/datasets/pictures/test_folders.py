import json
import os
from pathlib import Path

import pytest

from detector.datasets.pictures.folders import by_stem, list_files, list_pictures, unread_files, walk
from detector.errors import UserError


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_pictures_are_known_by_the_suffixes_that_can_be_read(tmp_path: Path) -> None:
    make(tmp_path, "a.JPG", "b.jfif", "c.jpe", "d.dib", "e.pbm", "f.jp2", "g/h.Webp", "i.txt", "j.heic", "k.pfm", "l")
    assert list_pictures(tmp_path) == ["a.JPG", "b.jfif", "c.jpe", "d.dib", "e.pbm", "f.jp2", "g/h.Webp"]


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.txt", "data.yaml", "x/c.HEIC", "x/d.heic", "e.svg", "noend")
    assert unread_files(tmp_path) == ["2 × .heic, the first is x/c.HEIC", "1 × .svg, the first is e.svg"]


@pytest.mark.parametrize("links", [1, 2, 3])
def test_each_real_folder_is_entered_once(tmp_path: Path, links: int) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    for number in range(links):
        (tmp_path / f"loop{number}").symlink_to(tmp_path)
        (tmp_path / "sub" / f"up{number}").symlink_to("..")
    (tmp_path / "again").symlink_to(tmp_path / "sub")
    assert list_pictures(tmp_path) == ["a.jpg", "sub/b.jpg"]


def test_linked_folders_and_files_elsewhere_are_entered(tmp_path: Path) -> None:
    make(tmp_path, "in/a.png", "else/b.png", "one.png")
    (tmp_path / "in/more").symlink_to(tmp_path / "else")
    (tmp_path / "in/one.png").symlink_to(tmp_path / "one.png")
    (tmp_path / "in/nowhere.png").symlink_to(tmp_path / "missing.png")
    assert list_pictures(tmp_path / "in") == ["a.png", "more/b.png", "one.png"]


def test_hidden_files_and_what_is_no_file_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "._a.png", ".ipynb_checkpoints/a.png", "d.png/inner.txt")
    os.mkfifo(tmp_path / "pipe.png")
    assert list_pictures(tmp_path) == ["a.png"]


def test_a_folder_can_be_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "out/b.png")
    assert [path.name for path in walk(tmp_path, skip=tmp_path / "out")] == ["a.png"]
    assert [path.name for path in walk(tmp_path / "out", skip=tmp_path / "out")] == ["b.png"]
    assert len(list(walk(tmp_path, skip=tmp_path / "missing"))) == 2


def test_missing_folders_and_shared_stems(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        list_files(tmp_path / "nowhere", (".xml",))
    assert by_stem(["a.b/c.d.jpg"]) == {"a.b/c.d": "a.b/c.d.jpg"}
    with pytest.raises(UserError, match=r"a\.jpg and a\.png differ in their suffix only"):
        by_stem(["a.jpg", "a.png"])


def test_a_training_run_among_the_pictures_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.png", "output/first/samples/b.png", "output/first/.lock", "output/first/config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_pictures(tmp_path) == ["a.png", "output/first/samples/b.png"]
    (tmp_path / "output/first/checkpoints").mkdir()
    assert list_pictures(tmp_path) == ["a.png"]
    assert list_pictures(tmp_path / "output/first") == ["samples/b.png"]


def test_what_predictions_and_reports_have_drawn_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "found/b.png", "found/c/d.jpg", "report/label_errors.jpg", "other/label_errors.jpg")
    (tmp_path / "found/e.png").touch()  # somebody's own, in the same folder
    (tmp_path / "report/label_errors.csv").touch()
    lines = [json.dumps(value) for value in ({"made_with": {}}, "b.png", "c/d.jpg", "gone.png", {"pictures": []})]
    (tmp_path / "found/.pictures").write_text("\n".join(lines) + '\n"torn')
    assert list_pictures(tmp_path) == ["a.png", "found/e.png", "other/label_errors.jpg"]
    assert list_pictures(tmp_path / "found") == ["b.png", "c/d.jpg", "e.png"]  # named itself, it is asked for
