"""From command-line words to pictures, and from those to output names."""

from pathlib import Path

import pytest

from detector.errors import UserError
from detector.inference.inputs import Input, find_inputs, name_outputs, name_videos, split_videos

NOWHERE = Path("output-that-is-not-there")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "cats/b.jpg",
        "cats/a.JPG",
        "cats/notes.txt",
        "cats/.hidden.jpg",
        "cats/old/a.png",
        "cats/.cache/x.png",
        "dogs/b.jpg",
        "odd[1].jpg",
        "scan.data",
        "empty/readme.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(words: list[str], skip: Path = NOWHERE) -> list[str]:
    return [one.name for one in find_inputs(words, skip)[0]]


def test_a_folder_stands_for_its_pictures(tree: Path) -> None:
    assert names(["cats"]) == ["a.JPG", "b.jpg", "old/a.png"]
    assert names([str(tree / "cats")]) == ["a.JPG", "b.jpg", "old/a.png"]


def test_a_named_file_needs_no_suffix(tree: Path) -> None:  # noqa: ARG001
    assert names(["scan.data", "odd[1].jpg"]) == ["scan.data", "odd[1].jpg"]


def test_patterns(tree: Path) -> None:  # noqa: ARG001
    assert names(["*/b.jpg"]) == ["cats/b.jpg", "dogs/b.jpg"]  # they share their name, so the paths are told
    assert names(["cats/*.JPG"]) == ["a.JPG"]
    assert names(["ca*s"]) == ["a.JPG", "b.jpg", "old/a.png"]  # a pattern that matches a folder
    assert names(["cats/**/a.*"]) == ["a.JPG", "a.png"]


def test_links_are_followed_and_never_round_and_round(tree: Path) -> None:
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/c.png").touch()
    (tree / "cats/more").symlink_to(tree / "elsewhere")
    for number in range(3):
        (tree / f"cats/loop{number}").symlink_to(tree / "cats")
    assert names(["cats"]) == ["a.JPG", "b.jpg", "old/a.png", "more/c.png"]
    assert names(["cats/**/*.png"]) == ["c.png", "a.png"]
    assert names(["cats/**/ol?"]) == ["a.png"]  # a folder that the pattern matches


def test_each_file_once(tree: Path) -> None:
    assert names(["cats/b.jpg", str(tree / "cats/b.jpg"), "cats"]) == ["b.jpg", "a.JPG", "old/a.png"]


def test_the_output_folder_is_left_alone_unless_named(tree: Path) -> None:  # noqa: ARG001
    assert names(["cats"], skip=Path("cats/old")) == ["a.JPG", "b.jpg"]
    assert names(["cats/old"], skip=Path("cats/old")) == ["a.png"]


def test_words_that_stand_for_nothing(tree: Path) -> None:  # noqa: ARG001
    found, unused = find_inputs(["missing.jpg", "cats/b.jpg", "empty"], NOWHERE)
    assert [one.name for one in found] == ["b.jpg"]
    assert unused[0] == "missing.jpg: there is no such file, folder or match; check the path."
    assert unused[1].startswith("empty: this folder holds no pictures")
    with pytest.raises(UserError, match=r"missing.jpg: there is no such file, folder or match; check the path."):
        find_inputs(["missing.jpg"], NOWHERE)


def test_output_names_do_not_meet() -> None:
    relatives = ["a.jpg", "A.JPG", "a.png", "a.gif", "a.tif", "sub/a.jpg", "Image.rf.x.webp", "noend"]
    inputs = [Input(Path(f"in{i}") / name, name, name) for i, name in enumerate(relatives)]
    outputs = [path.as_posix() for path in name_outputs(inputs, Path("out"))]
    expected = ["a.jpg", "A-2.JPG", "a.png", "a-2.png", "a-3.png", "sub/a.jpg", "Image.rf.x.png", "noend.png"]
    assert outputs == [f"out/{name}" for name in expected]


def test_an_output_never_replaces_an_input(tree: Path) -> None:
    inputs, _ = find_inputs(["cats"], NOWHERE)
    with pytest.raises(UserError, match="would replace its input; choose another --output"):
        name_outputs(inputs, tree / "cats")


def test_patterns_match_videos_too(tree: Path) -> None:
    (tree / "cats/x.MP4").touch()
    (tree / "cats/odd[1].mp4").touch()
    (tree / "clips.avi").mkdir()
    (tree / "clips.avi/c.jpg").touch()
    words = ["cats/*.MP4", "cats/odd[1].mp4", "camera:0", "dogs/*.jpg", "missing.mp4", "clips.avi"]
    pictures, videos = split_videos(words)
    assert videos == ["cats/x.MP4", "cats/odd[1].mp4", "camera:0", "missing.mp4"]
    assert pictures == ["dogs/*.jpg", "clips.avi"]
    assert split_videos(["cats/*"]) == (["cats/a.JPG", "cats/b.jpg", "cats/notes.txt"], videos[1::-1])


def test_a_file_without_the_suffix_of_a_picture_is_a_video_by_its_content(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = b"\0\0\0\x18ftypisom\0\0\x02\0"
    for name in ("cats/clip", "cats/clip.download", "cats/b.jpg"):
        (tree / name).write_bytes(video)
    (tree / "cats/picture").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["cats/clip", "cats/picture", "cats/b.jpg", "cats", "cats/*.download", "cats/p*"]
    assert split_videos(words) == (
        ["cats/picture", "cats/b.jpg", "cats", "cats/p*"],
        ["cats/clip", "cats/clip.download"],
    )
    monkeypatch.setenv("HOME", str(tree))
    assert split_videos(["~/cats/clip", "~/cats/x.mp4"])[1] == [f"{tree}/cats/clip", f"{tree}/cats/x.mp4"]


def test_a_folder_of_videos_says_how_to_name_them(tree: Path) -> None:
    (tree / "empty/x.mov").touch()
    with pytest.raises(UserError, match=r"holds no pictures .*, but videos; name these, as 'empty/\*\.mov'\."):
        find_inputs(["empty"], NOWHERE)


def test_words_that_no_system_takes_for_a_path_stop_no_others(tree: Path) -> None:  # noqa: ARG001
    found, unused = find_inputs(["a" * 300 + ".jpg", "~nobody-of-this-name/a.jpg", "cats/b.jpg"], NOWHERE)
    assert [one.name for one in found] == ["b.jpg"]
    assert "cannot be read (File name too long); check the path." in unused[0]
    assert unused[1] == "~nobody-of-this-name/a.jpg: there is no such file, folder or match; check the path."
    assert find_inputs(["camera:a", "cats/b.jpg"], NOWHERE)[1] == [
        "camera:a: cameras are camera:0, camera:1 and so on."
    ]


def test_all_that_stands_for_nothing_is_said_together(tree: Path) -> None:  # noqa: ARG001
    with pytest.raises(UserError, match=r"^http://it: cannot be fetched\. missing\.jpg: there is no such file"):
        find_inputs(["missing.jpg"], NOWHERE, ["http://it: cannot be fetched."])
    assert find_inputs(["cats/b.jpg"], NOWHERE, ["http://it: cannot be fetched."])[1] == [
        "http://it: cannot be fetched."
    ]


def test_an_empty_word_is_not_the_current_folder(tree: Path) -> None:  # noqa: ARG001
    assert find_inputs(["", "cats/b.jpg"], NOWHERE)[1] == [
        "'': an empty word names nothing; is a variable of the shell not set?"
    ]
    assert names(["."])[:2] == ["odd[1].jpg", "cats/a.JPG"]


def test_long_names_leave_room_for_those_that_files_have_at_first() -> None:
    names_of_250 = [f"{number}{'猫' * 80}.jpg" for number in range(2)]
    first, second = name_outputs([Input(Path(f"{name}/x"), name, name) for name in names_of_250], Path("out"))
    assert first.name == "猫" * 50 + ".jpg"
    assert second.name == "猫" * 50 + "-2.jpg"


def test_each_video_has_files_of_its_own(tmp_path: Path) -> None:
    outputs = name_videos(["a/clip.mp4", "b/Clip.mp4", "b/clip.avi", "camera:0"], tmp_path)
    assert [one.lines.name for one in outputs] == [
        "clip.mp4.jsonl",
        "Clip-2.mp4.jsonl",
        "clip-3.avi.jsonl",
        "camera-0.jsonl",
    ]
    assert [one.annotated.name for one in outputs] == [
        "clip.annotated.mp4",
        "Clip-2.annotated.mp4",
        "clip-3.annotated.mp4",
        "camera-0.annotated.mp4",
    ]
    with pytest.raises(UserError, match=r"the annotated video would replace an input; choose another --output"):
        name_videos(["clip.mp4", str(tmp_path / "clip.annotated.mp4")], tmp_path)


@pytest.mark.parametrize(
    "word", ["rtsp://10.0.0.1/cam", "s3://bucket/a.jpg", "file:///a.jpg", "data:image/png;base64,AA"]
)
def test_addresses_of_other_kinds_are_told(tree: Path, word: str) -> None:  # noqa: ARG001
    with pytest.raises(UserError, match=r"(://|data:) addresses are not read; give a file's path, an http or https"):
        find_inputs([word], NOWHERE)
