from pathlib import Path

import pytest

from detector.datasets.formats.picture_list import is_picture_list, read_picture_list
from detector.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("set/images/a.jpg", "set/images/sub/b.png", "set/images/c d.jpg", "outside.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(tree: Path, text: str, name: str = "train.txt") -> Path:
    path = tree / "set" / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "images/sub/b.png\nimages/a.jpg\n",
        "./images/sub/b.png\r\n./images/a.jpg\r\n",
        "sub/b.png\na.jpg",
        "set/images/sub/b.png\nset/images/a.jpg",
        "images\\sub\\b.png\nimages\\a.jpg",
        "{root}/set/images/sub/b.png\n{root}/set/images/a.jpg",
        "\ufeffimages/sub/b.png\n\nimages/a.jpg",
    ],
)
def test_paths_that_start_at_different_folders(tree: Path, text: str) -> None:
    source = write(tree, text.replace("{root}", str(tree)))
    assert is_picture_list(source)
    assert read_picture_list(source, tree / "set/images") == ["sub/b.png", "a.jpg"]


def test_names_with_spaces(tree: Path) -> None:
    assert read_picture_list(write(tree, "images/c d.jpg"), tree / "set/images") == ["c d.jpg"]


def test_what_is_no_list(tree: Path) -> None:
    assert not is_picture_list(write(tree, "cat\ndog\n", "classes.txt"))
    assert not is_picture_list(write(tree, "", "empty.txt"))
    assert not is_picture_list(write(tree, "a.jpg", "data.yaml"))
    assert not is_picture_list(tree)
    with pytest.raises(UserError, match=r"obj\.data: is a darknet file that names lists of pictures; give the list"):
        is_picture_list(write(tree, "train = train.txt", "obj.data"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images/z.jpg", r"lists images/z\.jpg, which is not a file in .*images"),
        ("../outside.jpg", r"lists \.\./outside\.jpg, which is not a file in"),
        ("images/a.jpg\n./images/a.jpg", r"lists \./images/a\.jpg more than once"),
    ],
)
def test_refusals(tree: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_picture_list(write(tree, text), tree / "set/images")
