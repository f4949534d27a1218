"""Streams: everything that stands for pictures, one after the other."""

import io
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.datasets.pictures.read import image_size
from detector.errors import UserError
from detector.inference import gather as gathering
from detector.inference.gather import gather
from detector.inference.predictor import Predictor
from detector.inference.streaming import in_batches_of_one_order, pictures_in

CATEGORIES = CategoryMap((Category(1, "a"), Category(2, "b"), Category(3, "c")))


def picture(seed: int) -> np.ndarray:
    return random_batch([(64, 80)], seed).pixels[0].permute(1, 2, 0).numpy().copy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(3):
        Image.fromarray(picture(seed)).save(tmp_path / f"{seed}.png")
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (80, 64))
    for seed in range(4):
        writer.write(picture(seed))
    writer.release()
    (tmp_path / "list.txt").write_text(f"# two\n{tmp_path / '0.png'}\n\n{tmp_path / '2.png'}\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_everything_that_stands_for_pictures_is_taken(folder: Path) -> None:
    def count(source: object) -> int:
        return len(list(pictures_in(source, "bgr")))

    assert count(folder) == count(f"{folder}/*.png") == 3
    assert count(folder / "clip.avi") == 4
    assert count(folder / "list.txt") == 2
    assert count(picture(0)) == count(folder / "0.png") == count((folder / "0.png").read_bytes()) == 1
    assert count([folder, picture(0), (picture(seed) for seed in range(5)), str(folder / "clip.avi")]) == 13


def test_frames_are_rgb_whatever_is_said_of_arrays(folder: Path) -> None:
    orders = [order for _, order in pictures_in([picture(0), folder / "clip.avi"], "bgr")]
    assert orders == ["bgr", *["rgb"] * 4]
    batches = in_batches_of_one_order(pictures_in([picture(0), folder / "clip.avi"], "bgr"), 3)
    assert [(len(batch), order) for batch, order in batches] == [(1, "bgr"), (3, "rgb"), (1, "rgb")]


def test_a_stream_gives_what_a_list_gives_one_by_one(folder: Path) -> None:
    config = tiny_config(inputs={"min_size_test": 64, "max_size_test": 96})
    predictor = Predictor(tiny_model(config), config, CATEGORIES)
    taken: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for seed in range(3):
            taken.append(seed)
            yield picture(seed)

    stream = predictor.predict(pictures(), 0.2, stream=True)
    first = next(stream)
    assert taken == [0]
    expected = predictor.predict([picture(seed) for seed in range(3)], 0.2)
    for one, other in zip([first, *stream], expected, strict=True):
        assert torch.equal(one.boxes, other.boxes)
    assert len(list(predictor.predict(folder, 0.2, stream=True))) == 3


def test_addresses_are_fetched_within_limits(
    folder: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (got,) = pictures_in(f"{server}/1.png", "rgb")
    assert got == ((folder / "1.png").read_bytes(), "rgb")
    assert len(list(pictures_in(f"{server}/clip.avi", "rgb"))) == 4
    with pytest.raises(UserError, match=r"missing\.png: cannot be fetched"):
        list(pictures_in(f"{server}/missing.png", "rgb"))
    monkeypatch.setattr(gathering, "MAX_BYTES", 100)
    gathered = gather([f"{server}/1.png", "a.jpg", f"{server}/missing.png"], tmp_path)
    assert gathered.words == ["a.jpg"]  # for which the others are no hindrance
    assert "longer than 100 bytes" in gathered.missed[0]
    assert f"{server}/missing.png: cannot be fetched (the server answered 404" in gathered.missed[1]
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    assert "DETECTOR_OFFLINE forbids the network" in gather([f"{server}/1.png"], tmp_path).missed[0]


@pytest.mark.parametrize("name", ["clip", "clip.php?id=7", "latest/"])
def test_a_video_at_an_address_that_does_not_say_so(folder: Path, server: str, name: str) -> None:
    path = folder / name.partition("?")[0] / ("index.html" if name.endswith("/") else "")
    path.parent.mkdir(exist_ok=True)
    (folder / "clip.avi").rename(path)
    frames = list(pictures_in(f"{server}/{name}", "bgr"))
    assert [(frame.shape, order) for frame, order in frames] == [((64, 80, 3), "rgb")] * 4


def test_a_video_on_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "clip.avi").read_bytes())))
    assert len(list(pictures_in("-", "rgb"))) == 4


def test_what_is_fetched_twice_is_the_same_file_until_it_changes(folder: Path, server: str, tmp_path: Path) -> None:
    def fetched() -> float:
        (tmp_path / "kept").mkdir()
        gathered = gather([f"{server}/1.png"], tmp_path / "kept")
        (path,) = gathered.words
        assert gathered.origins == {path: f"{server}/1.png"}
        modified = Path(path).stat().st_mtime
        shutil.rmtree(tmp_path / "kept")
        return modified

    before = fetched()
    assert fetched() == before
    (folder / "1.png").write_bytes((folder / "2.png").read_bytes())
    assert fetched() != before


@pytest.mark.parametrize("name", ["grün 1.png", "gr%C3%BCn%201.png", "..%2F..%2F1.png", f"{'l' * 240}.png"])
def test_addresses_as_browsers_show_them(folder: Path, server: str, tmp_path: Path, name: str) -> None:
    (folder / "grün 1.png").write_bytes((folder / "0.png").read_bytes())
    (folder / f"{'l' * 240}.png").write_bytes((folder / "0.png").read_bytes())
    kept = tmp_path / "kept"
    kept.mkdir()
    gathered = gather([f"{server.upper()}/{name}?size=large#top"], kept)
    (path,) = gathered.words
    assert not gathered.missed
    assert Path(path).parent == kept
    assert image_size(path) == (64, 80)


def test_standard_input_is_one_picture(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO((folder / "0.png").read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    (path,) = gather(["-"], tmp_path).words
    assert Path(path).read_bytes() == (folder / "0.png").read_bytes()
    with pytest.raises(UserError, match="standard input holds nothing"):
        gather(["-"], tmp_path)


def test_lists_name_inputs_and_no_lists(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("list.txt\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert gather([str(folder / "list.txt"), "a=b"], tmp_path).words[1:] == [str(folder / "2.png"), "a=b"]
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/list.txt").write_text("a\u2028b.png\r\nelsewhere.png\n", encoding="utf-8")
    (tmp_path / "beside/a\u2028b.png").touch()
    words = gather([str(tmp_path / "beside/list.txt")], tmp_path).words
    assert words == [str(tmp_path / "beside/a\u2028b.png"), "elsewhere.png"]
    (tmp_path / "labels.txt").write_text("0 0.5 0.5 0.1 0.1\n")  # as YOLO has them beside the pictures
    words = [str(tmp_path / name) for name in ("other.txt", "empty.txt", "labels.txt", "0.png")]
    gathered = gather(words, tmp_path)
    assert gathered.words == words[3:]  # to which the others are no hindrance
    assert "cannot name another list" in gathered.missed[0]
    assert "names no inputs" in gathered.missed[1]
    assert "is taken for a list of inputs, and its lines, such as '0 0.5 0.5 0.1 0.1', name none" in gathered.missed[2]
    with pytest.raises(UserError, match="cannot name another list"):
        list(pictures_in(tmp_path / "other.txt", "rgb"))


def test_addresses_that_give_no_picture(
    folder: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "page.png").write_text("<!DOCTYPE html><p>log in first")
    gathered = gather([f"{server}/page.png", f"{server.replace('//', '//me:secret@')}/1.png"], tmp_path / "kept")
    assert not gathered.words
    assert "page.png: cannot be fetched (the server gave a web page and no picture)" in gathered.missed[0]
    assert "(names and passwords in addresses are not sent)" in gathered.missed[1]
    asked: list[str] = []
    monkeypatch.setattr(gathering, "download", lambda url, *_, **__: asked.append(url))
    gather(["http://bücher.example:80/ü.png?a=ß#x", "http://[::1]:80/a"], tmp_path / "kept")
    assert asked == ["http://xn--bcher-kva.example:80/%C3%BC.png?a=%C3%9F#x", "http://[::1]:80/a"]
