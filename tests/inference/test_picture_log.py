"""The log of pictures: what its lines mean after a kill, a hand on the folder, and among several processes."""

from pathlib import Path

import pytest

from detector.errors import UserError
from detector.inference.picture_log import LIST, Entry, PictureLog

A, B = Entry("a.png", "a.png", 7, 1, []), Entry("b.png", "b.png", 8, 2, [{"score": 0.1 + 0.2}])
LEFT_OUT = Entry("c.png", "c.png", 9, 3, problem="c.png: no picture")


def test_a_line_says_what_became_of_a_batch_and_counts_where_its_pictures_are_there(tmp_path: Path) -> None:
    log = PictureLog(tmp_path)
    log.begin({"weights": ["x"]})
    log.append([A, LEFT_OUT])
    log.append([B])
    for name in ("a.png", "b.png"):
        log.announce(name)
        (tmp_path / name).touch()
    assert log.entries() == {"a.png": A, "c.png": LEFT_OUT, "b.png": B}
    assert log.announced() == ["a.png", "b.png"]
    assert log.earlier() == {"weights": ["x"]}
    (tmp_path / "a.png").unlink()
    assert log.entries() == {"b.png": B}
    log.append([LEFT_OUT, Entry("b.png", "b.png", 8, 5, [])])
    assert log.entries()["b.png"].modified == 5  # the last word counts


def test_every_cut_of_the_file_leaves_the_lines_before_it(tmp_path: Path) -> None:
    log = PictureLog(tmp_path)
    log.begin({})
    (tmp_path / "b.png").touch()
    log.append([B])
    whole = log.path.read_bytes()
    log.append([LEFT_OUT])
    longer = log.path.read_bytes()
    for cut in range(len(whole), len(longer)):
        log.path.write_bytes(longer[:cut])
        log.merge()
        assert log.entries().get("b.png") == B
        log.append([LEFT_OUT])
        assert log.entries() == {"b.png": B, "c.png": LEFT_OUT}


def test_files_of_several_processes_are_merged_into_one(tmp_path: Path) -> None:
    first, second, tenth = (PictureLog(tmp_path, rank) for rank in (0, 1, 10))
    first.begin({"augment": False})
    for log, name in ((first, "a.png"), (tenth, "b.png")):
        log.announce(name)
        (tmp_path / name).touch()
    first.append([A])
    second.append([LEFT_OUT])
    tenth.append([B])
    together = first.entries()
    assert together == {"a.png": A, "b.png": B, "c.png": LEFT_OUT}
    first.merge()
    assert [path.name for path in tmp_path.glob(f"{LIST}*")] == [LIST]
    assert first.entries() == together
    assert first.announced() == ["a.png", "b.png"]
    assert first.earlier() == {"augment": False}


def test_what_is_no_line_of_ours_is_passed_over(tmp_path: Path) -> None:
    log = PictureLog(tmp_path)
    assert log.earlier() is None
    log.path.write_bytes(b'7\n{"pictures": 3}\n{"pictures": [{"name": 1}]}\n\xff\xfe\n["a"]\n{"made_with": 1}\n')
    assert log.entries() == {}
    assert log.announced() == []
    assert log.earlier() is None


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        PictureLog(tmp_path / "gone").append([A])
    assert Entry.of(tmp_path / "gone.png", "gone.png", "gone.png").size == -1
