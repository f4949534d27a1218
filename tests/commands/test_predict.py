"""The inference tool: what it prints and writes, odd pictures, bad ones, and the exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.commands import predict
from detector.commands.main import main
from detector.config import Config
from detector.errors import UserError
from detector.inference import gather
from detector.inference.output_folder import OutputFolder
from detector.weights.files import save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "traffic light"), Category(90, "猫")))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config: Config = tiny_config(inputs={"min_size_test": 96, "max_size_test": 160})
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures to look at; also the current folder, so that nothing is written elsewhere."""
    monkeypatch.chdir(tmp_path)
    for name, height, width in (("pictures/a.png", 90, 130), ("pictures/sub/b.jpg", 64, 64), ("other/a.png", 50, 70)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_batch([(height, width)]).pixels[0].permute(1, 2, 0).numpy()).save(path)
    return tmp_path


def read_json(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_pictures_tables_and_json(weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pictures/c.heic").touch()
    words = ["pictures", "--weights", str(weights), "--output", "out", "--score-threshold", "0.2", "--device", "cpu"]
    assert main(["predict", *words]) == 0
    printed = capsys.readouterr().out
    assert f"weights    {weights}" in printed
    assert "ResNet-18-C4, 3 classes (cat, traffic light, 猫)" in printed
    assert "input      2 pictures, scores from 0.2" in printed
    assert "not read   pictures: 1 × .heic, the first is c.heic\n" in printed
    assert "a.png  130 × 90, " in printed
    found = read_json(folder / "out/detections.json")
    assert {entry["file_name"] for entry in found} == {"a.png", "sub/b.jpg"}
    for entry in found:
        assert set(entry) == {"image_id", "category_id", "bbox", "score", "file_name", "category_name"}
        assert entry["category_name"] == CATEGORIES.name_of(CATEGORIES.label_of(entry["category_id"]))
        assert entry["image_id"] == ["a.png", "sub/b.jpg"].index(entry["file_name"]) + 1
        assert entry["score"] >= 0.2
        x, y, width, height = entry["bbox"]
        limit = {"a.png": (130, 90), "sub/b.jpg": (64, 64)}[entry["file_name"]]
        assert 0 <= x < x + width <= limit[0] + 1e-3
        assert 0 <= y < y + height <= limit[1] + 1e-3
    for name, size in (("a.png", (130, 90)), ("sub/b.jpg", (64, 64))):
        with Image.open(folder / "out" / name) as drawn, Image.open(folder / "pictures" / name) as original:
            assert drawn.size == size
            assert not np.array_equal(np.asarray(drawn), np.asarray(original))


def test_settings_of_the_weights_can_be_changed(
    weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["other", "--weights", str(weights), "--output", "out", "--score-threshold", "0"]
    assert main(["predict", *words, "model.detection.score_threshold=0.3", "model.detection.max_per_image=2"]) == 0
    assert "the model gives scores above 0.3" in capsys.readouterr().out
    found = read_json(folder / "out/detections.json")
    assert len(found) == 2
    assert min(entry["score"] for entry in found) > 0.3
    with pytest.raises(UserError, match=r"unknown setting model.detection.max_per_imag. Did you mean"):
        main(["predict", *words, "model.detection.max_per_imag=2"])
    Path("input.x=1").write_bytes(Path("other/a.png").read_bytes())  # a file of that name is a picture
    assert main(["predict", "input.x=1", "--weights", str(weights), "--output", "out"]) == 0


def test_same_names_from_two_folders(weights: Path, folder: Path) -> None:
    assert main(["predict", "*/a.png", "--weights", str(weights), "--output", "out", "--score-threshold", "0.2"]) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        ".pictures",
        "a-2.png",
        "a.png",
        "detections.json",
    ]
    assert {entry["file_name"] for entry in read_json(folder / "out/detections.json")} == {
        "other/a.png",
        "pictures/a.png",
    }


def test_a_used_folder_holds_one_prediction(weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--weights", str(weights), "--output", "out", "--score-threshold", "0.2"]
    assert main(["predict", "pictures", *words]) == 0
    (folder / "out/mine.txt").write_text("kept")
    (folder / "out/mine.png").write_bytes((folder / "out/a.png").read_bytes())
    capsys.readouterr()
    assert main(["predict", "other/a.png", *words, "--score-threshold", "1"]) == 0
    assert "output     out (2 pictures of an earlier prediction deleted)" in capsys.readouterr().out
    left = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*"))
    assert left == [".pictures", "a.png", "detections.json", "mine.png", "mine.txt"]
    assert read_json(folder / "out/detections.json") == []
    # What would delete its own input is refused, and nothing is deleted.
    (folder / "out/sub").mkdir()
    shutil.move(folder / "out/a.png", folder / "out/sub/a.png")
    (folder / "out/.pictures").write_text('"sub/a.png"\n')
    with pytest.raises(UserError, match=r"out/sub/a\.png: is both an input and a picture of an earlier prediction"):
        main(["predict", "out/sub/a.png", *words])
    assert (folder / "out/sub/a.png").is_file()


def test_wrong_weights_are_reported_before_anything_else(folder: Path) -> None:
    code = f"""
import sys
from detector.commands.main import main
from detector.errors import UserError
try:
    main(["predict", {str(folder / "pictures")!r}, "--weights", "R101-C4-3"])
except UserError as error:
    print(error, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "weights 'R101-C4-3': there is no such file, and no such published name; did you mean"
    )
    assert done.stdout.endswith("R101-C4-3x? False\n")


def test_batches_give_the_same(weights: Path, folder: Path) -> None:
    for size in ("1", "3"):
        words = ["pictures", "other", "--weights", str(weights), "--output", size, "--score-threshold", "0.2"]
        assert main(["predict", *words, "--batch-size", size]) == 0
    one, three = read_json(folder / "1/detections.json"), read_json(folder / "3/detections.json")
    assert one == three  # three sizes, so each picture went alone


def test_a_bad_file_does_not_stop_the_rest(weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pictures/a-text.jpg").write_text("no picture")
    words = ["pictures", "missing.png", "--weights", str(weights), "--output", "out", "--score-threshold", "0.2"]
    assert main(["predict", *words]) == 2
    captured = capsys.readouterr()
    assert "2 of 3 pictures" in captured.out
    last = captured.err.splitlines()[-3:]
    assert last[0] == "error: 2 of 4 inputs could not be used:"
    assert last[1].startswith("  missing.png: there is no such file")
    assert last[2].startswith("  pictures/a-text.jpg: ")
    assert {entry["file_name"] for entry in read_json(folder / "out/detections.json")} == {"a.png", "sub/b.jpg"}


def test_odd_images(weights: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd, out = shared / "data/odd_images", tmp_path / "out"
    assert main(["predict", str(odd), "--weights", str(weights), "--output", str(out), "--score-threshold", "0.2"]) == 2
    errors = capsys.readouterr().err
    left_out = errors[errors.index("error: ") :].splitlines()[1:]
    assert [Path(line.split(":")[0]).name for line in left_out] == [
        "broken.png",
        "truncated_image.png",
        "truncated_jpeg.jpg",
    ]
    names = sorted(path.name for path in odd.iterdir())
    written = sorted(path.name for path in out.iterdir())
    written.remove(".pictures")
    assert len(written) == len(names) - 3 + 1
    upright = {"Landscape_6.jpg": (1800, 1200), "Portrait_8.jpg": (1200, 1800), "color_exif.jpg": (300, 400)}
    for name in written:
        if name != "detections.json":
            with Image.open(out / name) as picture:
                picture.load()
                assert picture.format == {".jpg": "JPEG", ".png": "PNG"}[Path(name).suffix]
                assert picture.mode == "RGB"
                assert picture.size == upright.get(name, picture.size)
    assert "chi.png" in written
    assert "16bit.deflate.png" in written


def test_files_that_are_passed_over_are_counted(
    weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.svg", "b.SVG", "notes.txt"):
        (folder / "other" / name).write_text("no picture")
    assert main(["predict", "other", "--weights", str(weights), "--output", "out", "--score-threshold", "1"]) == 0
    printed = capsys.readouterr().out
    assert "not read   other: 2 × .svg, the first is a.svg" in printed
    assert ".txt" not in printed


def test_nothing_found(weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["other", "--weights", str(weights), "--output", "out", "--score-threshold", "1"]
    assert main(["predict", *words]) == 0
    assert "a.png  70 × 50, 0 found" in capsys.readouterr().out
    assert read_json(folder / "out/detections.json") == []
    with Image.open(folder / "out/a.png") as drawn, Image.open(folder / "other/a.png") as original:
        assert np.array_equal(np.asarray(drawn), np.asarray(original))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.jpg"], "missing.jpg: there is no such file, folder or match"),
        (["input.min_size_test=100"], "no picture is given"),
        (["pictures", "--output", "pictures"], "would replace its input"),
        (["pictures", "--output", "pictures/a.png"], "cannot make the output folder"),
        (["pictures", "--device", "cuda:77"], "'cuda:77' is not available"),
    ],
)
def test_mistakes(weights: Path, folder: Path, words: list[str], sentence: str) -> None:  # noqa: ARG001
    with pytest.raises(UserError, match=sentence):
        main(["predict", *words, "--weights", str(weights)])


@pytest.mark.parametrize("words", [["--score-threshold", "50"], ["--batch-size", "0"], ["--score-threshold", "nan"]])
def test_numbers_out_of_range(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["predict", "a.jpg", *words])
    assert exit_code.value.code == 2
    assert "choose" in capsys.readouterr().err


def test_weights_of_the_newest_finished_run(tmp_path: Path) -> None:
    assert predict.choose_weights(tmp_path)[0] == "R101-C4-3x"
    for age, name in enumerate(
        ("new/model_final", "old/model_final", "old/model_best", "unfinished/model_best", "oldest/model_final")
    ):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert predict.choose_weights(tmp_path)[0] == str(tmp_path / "new/model_final.safetensors")
    os.utime(tmp_path / "old/model_final.safetensors", (2000, 2000))
    weights, why = predict.choose_weights(tmp_path)
    assert weights == str(tmp_path / "old/model_best.safetensors")
    assert "newest finished run" in why


def test_published_weights_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_CACHE", str(folder / "cache"))
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    address = "COCO-Detection/faster_rcnn_R_101_C4_3x/138204752/model_final_298dad.pkl"
    expected_at = folder / "cache/R101-C4-3x.pkl"
    words = ["other", "--weights", "R101-C4-3x", "--device", "cpu"]
    with pytest.raises(UserError, match="DETECTOR_OFFLINE forbids fetching") as offline:
        main(["predict", *words])
    assert f"https://dl.fbaipublicfiles.com/detectron2/{address}" in str(offline.value)
    assert f"put the file at {expected_at}" in str(offline.value)

    monkeypatch.delenv("DETECTOR_OFFLINE")
    monkeypatch.setenv("DETECTOR_MIRROR", "http://127.0.0.1:1/mirror")  # a port where nobody answers
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between the attempts
    with pytest.raises(UserError, match=r"R101-C4-3x: cannot fetch http://127\.0\.0\.1:1/mirror/") as unreachable:
        main(["predict", *words])
    assert f"put the file at {expected_at}" in str(unreachable.value)
    assert not (folder / "output/infer/detections.json").exists()


def run_tool(project_root: Path, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(project_root / "tools/infer.py"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def test_as_a_command_on_a_plain_terminal(weights: Path, folder: Path, project_root: Path) -> None:
    (folder / "broken.png").write_bytes(b"")
    words = ("broken.png", "other", "--weights", weights, "--output", "out", "--score-threshold", "0.2")
    process = run_tool(project_root, *words, PYTHONIOENCODING="ascii")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in err
    assert "broken.png: " in err
    assert "1 of 2 pictures" in out


def test_terminated_midway_keeps_what_was_found(weights: Path, folder: Path, project_root: Path) -> None:
    for number in range(400):
        shutil.copy(folder / "pictures/a.png", folder / f"pictures/{number:03}.png")
    process = run_tool(project_root, "pictures", "--weights", weights, "--output", "out", "--score-threshold", "0.2")
    deadline = time.monotonic() + 300  # a busy machine may take a minute to begin
    while not (folder / "out/003.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "of 402 pictures" in out
    found = read_json(folder / "out/detections.json")
    assert "003.png" in {entry["file_name"] for entry in found}
    assert "399.png" not in {entry["file_name"] for entry in found}


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_terminal_that_closes_ends_it_as_a_signal_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with pytest.raises(SystemExit) as left, predict.leave_on_signals():
                signal.raise_signal(number)
            assert left.value.code == code
            assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with predict.leave_on_signals():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_killed_over_an_earlier_prediction_it_leaves_whole_files_of_its_own(
    weights: Path, folder: Path, project_root: Path
) -> None:
    words = ["--weights", str(weights), "--output", "out", "--score-threshold", "0.2"]
    assert main(["predict", "pictures", *words]) == 0  # a.png and sub/b.jpg, with boxes
    for number in range(400):
        shutil.copy(folder / "other/a.png", folder / f"other/{number:03}.png")
    process = run_tool(project_root, "other", *words)
    deadline = time.monotonic() + 300  # a busy machine may take a minute to begin
    while not (folder / "out/003.png").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    pictures = {path.name: path for path in (folder / "out").rglob("[!.]*.*")}
    assert {"000.png", "003.png"} <= set(pictures) <= {f"{number:03}.png" for number in range(399)}
    for path in pictures.values():
        with Image.open(path) as drawn:
            drawn.load()
            assert drawn.size == (70, 50)
    # What a kill leaves half written has a hidden name, and goes with the rest.
    (folder / "out/.003.png.123.partial").write_bytes(b"\x89PNG")
    (folder / "out/.mine.png.123.partial").write_bytes(b"not ours")
    assert main(["predict", "pictures", *words]) == 0
    left = {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*")}
    assert left == {".mine.png.123.partial", ".pictures", "a.png", "detections.json", "sub", "sub/b.jpg"}


def test_an_ensemble_that_looks_several_times(weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = folder / "second.safetensors"
    config = tiny_config(backbone={"width": 4}, inputs={"min_size_test": 64, "max_size_test": 160})
    turned = CategoryMap((Category(1, "猫"), Category(2, "cat"), Category(3, "traffic light")))
    save_weights(second, tiny_model(config).state_dict(), config, turned, {})
    common = ["--output", "out", "--score-threshold", "0.1", "--device", "cpu"]
    words = ["--weights", str(weights), str(second), "other", "--augment", *common]
    assert main(["predict", *words, "model.detection.augment.vertical_flip=true"]) == 0
    printed = capsys.readouterr().out
    assert f"weights    {weights}, {second}\n" in printed
    assert "augment    average, 2 models, 8 views of each picture\n" in printed
    assert len(read_json(folder / "out/detections.json")) > 3
    assert main(["predict", "other", "--weights", str(weights), *common, "model.detection.augment.scales=[1,2]"]) == 0
    printed = capsys.readouterr().out
    assert "\naugment " not in printed
    assert "void       model.detection.augment.scales=[1.0, 2.0]: each picture is looked at once; give --aug" in printed
    named = CategoryMap.from_names(["a", "b", "c"])
    save_weights(second, tiny_model(config).state_dict(), config, named, {})
    with pytest.raises(UserError, match=r"second\.safetensors: has other classes than .*it lacks"):
        main(["predict", "other", "--weights", str(weights), str(second), *common])


def test_tiles_that_hold_a_picture_change_nothing_and_smaller_ones_find_more(weights: Path, folder: Path) -> None:
    words = [
        "predict",
        "pictures",
        "--weights",
        str(weights),
        "--score-threshold",
        "0.2",
        "--device",
        "cpu",
        "--output",
    ]
    assert (
        main([*words, "plain"]) == main([*words, "one", "--tile", "130"]) == main([*words, "many", "--tile", "64"]) == 0
    )
    plain, one, many = (read_json(folder / name / "detections.json") for name in ("plain", "one", "many"))
    assert one == plain
    assert sum(found["file_name"] == "a.png" for found in many) > sum(found["file_name"] == "a.png" for found in plain)
    assert (folder / "many/a.png").is_file()


def test_an_overlap_without_tiles_is_refused(weights: Path) -> None:
    with pytest.raises(UserError, match="give --tile too"):
        main(["predict", "pictures", "--weights", str(weights), "--tile-overlap", "0.3"])


def write_clip(path: str, frames: int, first: int = 0) -> None:
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 64))
    for number in range(first, first + frames):
        writer.write(random_batch([(64, 96)], seed=number).pixels[0].permute(1, 2, 0).numpy().copy())
    writer.release()


def test_videos_of_one_name_have_files_of_their_own(weights: Path, folder: Path) -> None:
    for number, place in enumerate(("a", "b"), start=1):
        (folder / place).mkdir()
        write_clip(f"{place}/clip.avi", number)
    words = ["predict", "a/*.avi", "b/*", "--weights", str(weights), "--output", "out", "--device", "cpu"]
    assert main(words) == 0
    counts = [len((folder / f"out/{name}.avi.jsonl").read_bytes().splitlines()) for name in ("clip", "clip-2")]
    assert counts == [1, 2]
    assert (folder / "out/clip-2.annotated.mp4").is_file()


def test_a_video_that_cannot_be_read_stops_no_other_input(
    weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("a", "b"):
        (folder / place).mkdir()
    (folder / "a/clip.avi").write_bytes(b"torn")
    write_clip("b/clip.avi", 1)
    words = ["predict", "a/clip.avi", "b/clip.avi", "pictures/a.png", "--weights", str(weights), "--output", "out"]
    assert main([*words, "--device", "cpu"]) == 2
    assert "1 of 3 inputs could not be used:\n  a/clip.avi: cannot be read as a video" in capsys.readouterr().err
    assert {path.name for path in (folder / "out").glob("*.jsonl")} == {"clip-2.avi.jsonl"}  # as when all can be read
    assert (folder / "out/a.png").is_file()
    with pytest.raises(UserError, match=r"none\.png: there is no such file.* a/clip\.avi: cannot be read as"):
        main([*words[:2], "none.png", *words[4:], "--device", "cpu"])
    assert main(["predict", "none.png", "b/clip.avi", *words[4:], "--device", "cpu"]) == 2
    assert "none.png: there is no such file" in capsys.readouterr().err
    assert (folder / "out/clip.avi.jsonl").is_file()


def test_what_is_fetched_is_called_by_its_address_and_known_again(
    weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(url: str, path: Path, *_: object, **__: object) -> None:
        path.write_bytes((folder / url.removeprefix("http://it/")).read_bytes())

    monkeypatch.setattr(gather, "download", fetch)
    (folder / "pictures/c.png").write_bytes(b"no picture")
    addresses = [f"http://it/{path}" for path in ("pictures/a.png", "other/a.png", "pictures/c.png")]
    words = ["predict", *addresses, "--weights", str(weights), "--output", "out", "--score-threshold", "0.2"]
    assert main([*words, "--device", "cpu"]) == 2
    assert f"left out: {addresses[2]}: not a picture" in capsys.readouterr().err
    found = read_json(folder / "out/detections.json")
    assert {one["file_name"] for one in found} == set(addresses[:2])  # which share the last part of their paths
    assert main([*words, "--device", "cpu", "--skip-done"]) == 2
    assert "(2 of 3 pictures are done already)" in capsys.readouterr().out
    assert read_json(folder / "out/detections.json") == found


def test_a_video_that_is_fetched_is_called_by_its_address(
    weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip("clip.avi", 1)
    monkeypatch.setattr(
        gather, "download", lambda _, path, *__, **___: path.write_bytes((folder / "clip.avi").read_bytes())
    )
    words = ["predict", "http://it/watch", "--weights", str(weights), "--output", "out", "--device", "cpu"]
    assert main(words) == 0
    assert "videos     http://it/watch\n" in capsys.readouterr().out


def test_a_video_whose_path_is_no_unicode_is_refused(folder: Path) -> None:
    write_clip("clip.avi", 1)
    name = os.fsdecode(b"\xff.avi")
    try:
        os.rename("clip.avi", name)
    except OSError:
        pytest.skip("this file system has names in Unicode alone")
    with pytest.raises(UserError, match=r"must be Unicode \(UTF-8\); rename"):
        main(["predict", name, "--output", "out"])
    assert not (folder / "out").exists()


def test_a_video_gives_lines_and_is_gone_on_with(
    weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip("clip.avi", 5)
    words = ["predict", "clip.avi", "--weights", str(weights), "--output", "out", "--device", "cpu", "--every", "2"]
    assert main(words) == 0
    whole = (folder / "out/clip.avi.jsonl").read_bytes()
    assert [json.loads(line)["frame"] for line in whole.splitlines()] == [0, 2, 4]
    assert (folder / "out/clip.annotated.mp4").is_file()
    (folder / "out/clip.avi.jsonl").write_bytes(whole[: len(whole) // 2])
    assert main([*words, "--resume"]) == 0
    assert (folder / "out/clip.avi.jsonl").read_bytes() == whole
    assert "of them by an earlier run" in capsys.readouterr().out
    with pytest.raises(UserError, match="other settings"):
        main([*words, "--resume", "--score-threshold", "0.4"])
    of_another = OutputFolder(folder / "out")
    of_another.save_picture(folder / "out/a.png", np.zeros((4, 4, 3), np.uint8))
    assert main([*words, "--resume"]) == 0  # which goes on with what the folder holds
    assert (folder / "out/a.png").is_file()
    write_clip("clip.avi", 5, first=1)
    with pytest.raises(UserError, match="other settings, model or video"):
        main([*words, "--resume"])
    with pytest.raises(UserError, match="for videos"):
        main(["predict", "pictures", "--weights", str(weights), "--resume"])


def test_annotated_copies_are_no_pictures_of_the_folder_around_them(
    weights: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "pictures", "--weights", str(weights), "--device", "cpu", "--output"]
    assert main([*words, "pictures/found"]) == 0
    assert list((folder / "pictures/found").glob("*.png"))
    capsys.readouterr()
    assert main([*words, "elsewhere"]) == 0
    printed = capsys.readouterr().out
    assert "found/" not in printed
