"""The embedded set: the same pixels everywhere, honest boxes, and a folder that is never half made."""

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.datasets.shapes import difficulty, ensure_shapes, on_disk, outlines, scene
from detector.datasets.shapes.draws import Draws
from detector.errors import UserError

SMALL = {"train": 4, "val": 2, "test": 1}
# They change only together with difficulty.VERSION.
PIXELS_SHA256 = "e0119191c2a737ac929c8248017f8e85cf3ba3322312bd6bfd62914384a0bcb1"
SMALL_JSON_SHA256 = "04400523aaa22138bc8a169cc94b593bb03aef236abea229635c5709161ffb4c"
WHOLE_JSON_SHA256 = {
    "train": "c5cc30c5589a38f3518436880099b1ec19eb08ddaca940c994ec76081b4f58ba",
    "val": "ffaf3ea1031ed1068f538da08d38d51b83621c9f500c36431e618f9fa8c87dac",
    "test": "ba91f35300dc36d821ac75b1292848098903256873f19cc7892e92a752ec8243",
}


@pytest.fixture
def small_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difficulty, "SPLITS", SMALL)


def read_rgb(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_draws_repeat_by_key_and_differ_between_keys() -> None:
    first, again, other = Draws(1, 2), Draws(1, 2), Draws(1, 3)
    values = [first.integer(0, 10**9), first.uniform(0, 1), first.octets(3, 3).tolist()]
    assert values == [again.integer(0, 10**9), again.uniform(0, 1), again.octets(3, 3).tolist()]
    assert values[0] != other.integer(0, 10**9)
    # The raw stream of PCG64 is NumPy's promise; these are its first values for this key.
    assert [Draws(7).integer(0, 99) for _ in range(2)] == [Draws(7).integer(0, 99)] * 2
    assert {Draws(i).integer(3, 5) for i in range(60)} == {3, 4, 5}


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("disc", (0.7, 0.7), (0.75, 0.75)),
        ("box", (0.79, -0.79), (0.81, 0.0)),
        ("triangle", (0.0, -0.95), (0.3, -0.9)),
        ("star", (0.0, 0.95), (0.0, -0.95)),  # a tip below, a notch above
        ("ring", (0.8, 0.0), (0.0, 0.0)),
        ("cross", (0.9, 0.3), (0.5, 0.5)),
    ],
)
def test_outlines(name: str, inside: tuple[float, float], outside: tuple[float, float]) -> None:
    outline = outlines.OUTLINES[name]
    u, v = np.array([inside[0], outside[0]]), np.array([inside[1], outside[1]])
    assert outline(u, v).tolist() == [True, False]


def test_pixels_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for split, index in ((0, 0), (0, 1199), (1, 7), (2, 99)):
        pixels, annotations = scene.render_scene(split, index)
        digest.update(repr(pixels.shape).encode() + pixels.tobytes() + repr(annotations).encode())
    assert digest.hexdigest() == PIXELS_SHA256


def test_boxes_are_tight_around_what_can_be_seen() -> None:
    """Recomputed independently: paint every kept shape's number on a map, back to front."""
    for index in range(12):
        draws = Draws(difficulty.SEED, 0, index)
        size = draws.choice(difficulty.IMAGE_SIZES)
        shapes, annotations = scene._keep_visible(scene._place_shapes(draws, size), size)
        owner = np.full(size, -1)
        for number, shape in reversed(list(enumerate(shapes))):
            owner[shape.window][shape.coverage >= 0.5] = number
        labelled = [number for number, shape in enumerate(shapes) if shape.labelled]
        assert len(labelled) == len(annotations)
        for number, annotation in zip(labelled, annotations, strict=True):
            y, x = np.nonzero(owner == number)
            assert annotation.box == (x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1)
            assert annotation.area == len(x) >= difficulty.MIN_VISIBLE * shapes[number].whole
            assert annotation.name == shapes[number].name


@pytest.mark.usefixtures("small_set")
def test_set_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "shapes"
    ensure_shapes(folder, progress=False)
    image_ids: set[int] = set()
    for split_number, (split, count) in enumerate(SMALL.items()):
        coco = json.loads((folder / f"{split}.json").read_text())
        assert {c["id"]: c["name"] for c in coco["categories"]} == difficulty.CATEGORIES
        assert len(coco["images"]) == count
        assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
        assert not image_ids & {image["id"] for image in coco["images"]}
        image_ids |= {image["id"] for image in coco["images"]}
        for index, image in enumerate(coco["images"]):
            pixels = read_rgb(folder / split / image["file_name"])
            assert pixels.shape == (image["height"], image["width"], 3)
            expected, annotations = scene.render_scene(split_number, index)
            assert np.array_equal(pixels, expected)
            of_image = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
            assert [(difficulty.CATEGORIES[a["category_id"]], tuple(a["bbox"]), a["area"]) for a in of_image] == [
                (a.name, a.box, a.area) for a in annotations
            ]
    json_bytes = b"".join((folder / f"{split}.json").read_bytes() for split in SMALL)
    assert hashlib.sha256(json_bytes).hexdigest() == SMALL_JSON_SHA256


@pytest.mark.usefixtures("small_set")
def test_several_processes_render_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_shapes(tmp_path / "alone" / "shapes", progress=False)
    monkeypatch.setattr(on_disk, "FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(on_disk, "available_processors", lambda: 2)
    ensure_shapes(tmp_path / "together" / "shapes", progress=False)

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}

    assert contents(tmp_path / "together" / "shapes") == contents(tmp_path / "alone" / "shapes")


@pytest.mark.usefixtures("small_set")
def test_whole_set_is_left_alone_and_broken_ones_are_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    ensure_shapes(folder, progress=False)
    picture = folder / "train" / "00000.png"
    made = picture.stat().st_mtime_ns
    ensure_shapes(folder, progress=False)
    assert picture.stat().st_mtime_ns == made

    picture.unlink()
    ensure_shapes(folder, progress=False)
    assert picture.is_file()

    marker = folder / "version.json"
    marker.write_text(json.dumps({"version": 0}))
    (folder / "left_over").touch()
    ensure_shapes(folder, progress=False)
    assert json.loads(marker.read_text())["version"] == difficulty.VERSION
    assert not (folder / "left_over").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".shapes.lock", "shapes"]


@pytest.mark.usefixtures("small_set")
def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(on_disk, "_write_png", fail)
    with pytest.raises(OSError, match="disk full"):
        ensure_shapes(tmp_path / "shapes", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == [".shapes.lock"]


@pytest.mark.usefixtures("small_set")
def test_other_peoples_files_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"not the embedded set; to train on them set data\.generate=null"):
        ensure_shapes(tmp_path, progress=False)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there: both render, and the later one stays")
@pytest.mark.usefixtures("small_set")
def test_two_at_once_render_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock holds between open files, so threads stand for processes here."""
    written: list[Path] = []
    write = on_disk._write_png
    monkeypatch.setattr(on_disk, "_write_png", lambda path, pixels: (written.append(path), write(path, pixels)))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: ensure_shapes(tmp_path / "shapes", progress=False), range(2)))
    assert len(written) == sum(SMALL.values())
    assert len(list((tmp_path / "shapes" / "train").iterdir())) == SMALL["train"]


@pytest.mark.slow
def test_whole_set(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    ensure_shapes(folder, progress=False)
    found = {split: hashlib.sha256((folder / f"{split}.json").read_bytes()).hexdigest() for split in difficulty.SPLITS}
    assert found == WHOLE_JSON_SHA256
