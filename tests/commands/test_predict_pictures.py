"""Pictures gone on with after a kill, and pictures that several processes share: the bytes of one whole run."""

import json
import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from predictions import predict_in_processes
from sabotage import KILL, Sabotage
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.commands import predict_pictures
from detector.commands.main import main
from detector.errors import UserError
from detector.inference.detections import Detections
from detector.inference.output_folder import OutputFolder
from detector.weights.files import save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "traffic light"), Category(90, "猫")))
CONFIG = tiny_config(inputs={"min_size_test": 64, "max_size_test": 96})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(CONFIG).state_dict(), CONFIG, CATEGORIES, {})
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven pictures, neighbours of one size, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "c.jpg", "d.png", "e.png", "sub/f.jpg", "sub/g.png")):
        write_picture(folder / name, number)
    (folder / "c.png").write_text("no picture")
    return folder


def write_picture(path: Path, seed: int) -> None:
    size = (60, 80) if seed < 4 else (70, 64)
    Image.fromarray(random_batch([size], seed=seed).pixels[0].permute(1, 2, 0).numpy()).save(path)


def words(pictures: Path, weights: Path, output: Path, *more: str) -> list[str]:
    common = ["--weights", str(weights), "--output", str(output), "--score-threshold", "0.2", "--device", "cpu"]
    return [str(pictures), *common, *more]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but hidden ones, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def read_json(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(path.read_text())
    return entries


def written(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*.*g")
    }


def test_pictures_that_are_done_are_left_alone(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    late = [pictures / "a.png", pictures / "sub/f.jpg"]
    for path in late:
        path.rename(tmp_path / path.name)
    assert main(["predict", *words(pictures, weights, out, "--skip-done")]) == 2  # begins where there is nothing
    before = written(out)
    for path in late:
        (tmp_path / path.name).rename(path)
    capsys.readouterr()
    assert main(["predict", *words(pictures, weights, out, "--skip-done")]) == 2
    captured = capsys.readouterr()
    assert f"output     {out} (5 of 8 pictures are done already)" in captured.out
    assert "7 of 8 pictures, 5 of them by an earlier run, " in captured.out
    assert "b.png  80 × 60" not in captured.out
    assert "c.png: " in captured.err  # tried again
    assert {name: stamp for name, stamp in written(out).items() if name in before} == before
    assert main(["predict", *words(pictures, weights, tmp_path / "whole")]) == 2
    assert contents(out) == contents(tmp_path / "whole")


def test_changed_and_lost_pictures_are_done_again_and_those_of_other_folders_kept(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (pictures / "c.png").unlink()
    assert main(["predict", *words(pictures, weights, out)]) == 0
    first = read_json(out / "detections.json")
    write_picture(pictures / "b.png", 9)
    (out / "d.png").unlink()
    shutil.move(pictures / "a.png", tmp_path / "elsewhere.png")
    before = written(out)
    capsys.readouterr()
    assert main(["predict", *words(pictures, weights, out, "--skip-done")]) == 0
    printed = capsys.readouterr().out
    assert "(4 of 6 pictures are done already)" in printed
    assert "1 other pictures of earlier runs are kept" in printed
    assert {name for name, stamp in written(out).items() if before.get(name) != stamp} == {"b.png", "d.png"}
    entries = read_json(out / "detections.json")
    names = ["b.png", "c.jpg", "d.png", "e.png", "sub/f.jpg", "sub/g.png", "a.png"]
    assert {entry["file_name"]: entry["image_id"] for entry in entries} == {
        name: number for number, name in enumerate(names, start=1)
    }
    kept = [{**entry, "image_id": 7} for entry in first if entry["file_name"] == "a.png"]
    assert [entry for entry in entries if entry["file_name"] == "a.png"] == kept
    assert main(["predict", *words(pictures, weights, tmp_path / "whole")]) == 0
    assert entries[: -len(kept)] == read_json(tmp_path / "whole/detections.json")


def test_what_was_done_otherwise_is_refused_and_left_alone(weights: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["predict", *words(pictures, weights, out)]) == 2
    before = contents(out)
    other = tmp_path / "other.safetensors"
    save_weights(other, tiny_model(CONFIG, seed=1).state_dict(), CONFIG, CATEGORIES, {})
    for more, sentence in (
        (["--score-threshold", "0.3"], r"made with score threshold 0\.2 \(now 0\.3\); leave out --skip-done to redo"),
        (["--tile", "64"], r"made with tile none \(now 64\), tile overlap none \(now 0\.2\); "),
        (["model.detection.nms_threshold=0.4"], "made with other settings; "),
        (["--augment"], r"made with augment False \(now True\); "),
    ):
        with pytest.raises(UserError, match=sentence):
            main(["predict", *words(pictures, weights, out, "--skip-done", *more)])
    with pytest.raises(UserError, match="made with other weights; "):
        main(["predict", *words(pictures, other, out, "--skip-done")])
    shutil.copy(weights, tmp_path / "same.safetensors")  # the content counts
    assert main(["predict", *words(pictures, tmp_path / "same.safetensors", out, "--skip-done")]) == 2
    (out / ".pictures").write_text('"a.png"\n')
    with pytest.raises(UserError, match="does not say what its detections were made with; leave out --skip-done"):
        main(["predict", *words(pictures, weights, out, "--skip-done")])
    assert contents(out) == before


def test_skip_done_is_for_pictures(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--skip-done is for pictures"):
        main(["predict", "clip.mp4", "--weights", str(weights), "--output", str(tmp_path), "--skip-done"])


@pytest.mark.parametrize(
    ("seed", "batch_size"),
    [(0, 2), *(pytest.param(seed, seed % 3 + 1, marks=pytest.mark.slow) for seed in range(1, 9))],
)
def test_killed_anywhere_and_gone_on_with(
    weights: Path, pictures: Path, tmp_path: Path, seed: int, batch_size: int
) -> None:
    choose = random.Random(seed)
    size = ("--batch-size", str(batch_size))
    assert main(["predict", *words(pictures, weights, tmp_path / "whole", *size)]) == 2
    kills = 0
    for _ in range(12 if seed else 2):
        sabotage = Sabotage(choose.choice(["write", "replace", "fsync"]), choose.randrange(8), signal=KILL)
        command = words(pictures, weights, tmp_path / "out", "--skip-done", *size)
        (code,) = predict_in_processes(command, tmp_path / "screens", sabotage={0: sabotage})
        assert code in (-KILL, 2), (tmp_path / "screens/0.txt").read_text()
        kills += code == -KILL
    assert kills >= 1
    assert main(["predict", *words(pictures, weights, tmp_path / "out", "--skip-done", *size)]) == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "out").glob(".*")) == [".pictures"]


def test_two_processes_write_what_one_does_and_a_dead_one_leaves_no_results(
    weights: Path, pictures: Path, tmp_path: Path
) -> None:
    whole, out, screens = tmp_path / "whole", tmp_path / "out", tmp_path / "screens"
    assert main(["predict", *words(pictures, weights, whole, "--batch-size", "2")]) == 2
    command = words(pictures, weights, out, "--batch-size", "2")
    assert predict_in_processes(command, screens, 2) == [2, 2], (screens / "1.txt").read_text()
    assert contents(out) == contents(whole)
    assert sorted(path.name for path in out.glob(".*")) == [".pictures"]
    first, second = ((screens / f"{rank}.txt").read_text() for rank in (0, 1))
    assert "in each of 2 processes" in first
    assert "7 of 8 pictures, " in first
    assert "1 of 8 inputs could not be used" in first
    assert "pictures, " not in second
    assert sum(text.count("e.png  64 × 70") for text in (first, second)) == 1

    # Begun anew, and the second is killed while it writes the line of its second batch, or its picture.
    codes = predict_in_processes(command, tmp_path / "dead", 2, {1: Sabotage("write", 5, signal=KILL)})
    assert codes == [2, -KILL], (tmp_path / "dead/0.txt").read_text()
    assert "process 0 has lost another process of this run" in (tmp_path / "dead/0.txt").read_text()
    assert "--skip-done goes on with pictures" in (tmp_path / "dead/0.txt").read_text()
    assert not (out / "detections.json").exists()
    assert (out / ".pictures.1").is_file()
    assert main(["predict", *words(pictures, weights, out, "--batch-size", "2", "--skip-done")]) == 2
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("more", [[], ["--skip-done"], ["--resume"]])
def test_a_second_prediction_is_refused_while_one_writes(
    weights: Path, pictures: Path, tmp_path: Path, more: list[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", *words(pictures, weights, out)]) == 2
    before = contents(out)
    given = words(pictures, weights, out, *more)
    if "--resume" in more:
        given[0] = str(write_video(tmp_path / "v.mp4"))
    with ExitStack() as first:
        OutputFolder(out).make(first)
        with pytest.raises(UserError, match="out: another prediction is writing into this folder; wait for its end"):
            main(["predict", *given])
        assert contents(out) == before
    assert main(["predict", *given]) == (0 if "--resume" in more else 2)


def write_video(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 48))
    for level in (0, 100):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def test_table_columns_align() -> None:
    boxes, scores, labels = torch.zeros(2, 4), torch.tensor([0.9, 0.8]), torch.tensor([3, 2])
    lines = predict_pictures.table("a.png", Detections(boxes, scores, labels, (5, 5), CATEGORIES)).splitlines()
    assert lines[0] == "a.png  5 × 5, 2 found"
    assert lines[2].startswith("  猫             0.900 ")
    assert lines[3].startswith("  traffic light  0.800 ")


def test_names_cannot_command_a_terminal() -> None:
    categories = CategoryMap((Category(1, "cat\x1b[2J\nb.png  5 × 5, 0 found"),))
    detections = Detections(torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), (5, 5), categories)
    text = predict_pictures.table("a\x1b]0;x\x07.png", detections)
    assert text.count("\n") == 3
    assert text.replace("\n", "").isprintable()
