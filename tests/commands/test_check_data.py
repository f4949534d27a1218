"""The checking tool: what it prints, writes and returns, on each format; and its speed on a file as large as COCO's."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import folder_layouts as layouts
import pytest
from annotated_sets import COCO_ANNOTATIONS, sound_content, write_json, write_large_file, write_pictures
from tiny_models import tiny_config, tiny_model

import detector
from detector.categories import CategoryMap
from detector.commands.main import main
from detector.datasets.formats.open_dataset import open_dataset
from detector.errors import UserError
from detector.weights.files import save_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "set.json", sound_content())
    write_pictures(tmp_path / "images", sound_content())
    return tmp_path


def dirty_content() -> dict[str, Any]:
    """One fault for the repair of each kind, one that is left."""
    content = sound_content()
    content["info"] = {"year": 2017}
    content["annotations"][1]["segmentation"] = [[0.5, 0, 10.5, 0, 10.5, 20]]
    content["annotations"] += [
        {"id": 20, "image_id": 5, "category_id": 3, "bbox": [1, 1, 0, 5]},
        {"id": 21, "image_id": 5, "category_id": 3, "bbox": [9, 9, -4, 5]},
        {"id": 21, "image_id": 5, "category_id": 3, "bbox": [20, 9, 14, 5]},
        {"id": 22, "image_id": 5, "category_id": 3, "bbox": [50, 9, 14, 5]},
        {"id": 23, "image_id": 50, "category_id": 3, "bbox": [20, 9, 14, 5]},
        {"id": 24, "image_id": 5, "category_id": 3, "bbox": [1, 1, float("nan"), 5]},
    ]
    content["images"].append({"id": 7, "file_name": "gone.png", "height": 5, "width": 5})
    content["categories"].append({"id": 100, "name": "spare"})
    return content


def run(*words: object) -> int:
    code = main(["check-data", *(str(word) for word in words)])
    assert isinstance(code, int)
    return code


def test_a_sound_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "set.json", "--images", folder / "images") == 0
    text = capsys.readouterr().out
    assert f"annotations {folder / 'set.json'} (coco)" in text
    assert "3 pictures, 1 of them without objects; 3 annotations, 1 of them crowd regions" in text
    assert "  3 three           1 objects ( 50.0%) in       1 pictures" in text
    assert "  8 to 16         1  ########################################" in text
    assert "anchors of 32, 64, 128, 256, 512 pixels" in text
    assert text.endswith("no faults\n")


def test_faults_are_told_fixed_and_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_json(folder / "set.json", dirty_content()).read_bytes()
    output, report = folder / "fixed.json", folder / "faults.csv"
    words = (folder / "set.json", "--images", folder / "images", "--fix", output, "--report", report)
    assert run(*words) == 2
    text = capsys.readouterr().out
    assert "\nzero-size-box (1): width or height is 0" in text
    assert "  - annotation 20 of image 5 (y/z.png): bbox [1, 1, 0, 5] in a picture of 30x40\n" in text
    assert "\n9 faults\n" in text
    assert "\nfixed (8):\n" in text
    assert (
        "  - swapped-corners: annotation 21 of image 5 (y/z.png): bbox [9, 9, -4, 5] in a picture of 30x40 → " in text
    )
    assert "left to you, because they need a decision: 1 unused-category" in text
    assert f"wrote {output}: 3 images, 5 annotations" in text
    with open(report, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert (rows[0]["kind"], rows[0]["annotation"]) == ("unknown-image", "23")
    assert {row["kind"] for row in rows if row["image_id"] == "7"} == {"missing-picture"}

    assert (folder / "set.json").read_bytes() == before
    fixed = json.loads(output.read_text())
    assert fixed["info"] == {"year": 2017}
    assert fixed["annotations"][1]["segmentation"] == [[0.5, 0, 10.5, 0, 10.5, 20]]
    assert run(output, "--images", folder / "images", "--ignore", "unused-category") == 0
    assert len(open_dataset("coco", output, folder / "images", drop_degenerate_boxes=False).boxes) == 5


def test_ignored_kinds_count_nothing_and_are_not_fixed(folder: Path) -> None:
    content = sound_content()
    content["annotations"].append({"id": 20, "image_id": 5, "category_id": 3, "bbox": [1, 1, 0, 5]})
    write_json(folder / "set.json", content)
    words = (folder / "set.json", "--no-images", "--ignore", "zero-size-box", "--fix", folder / "new.json")
    assert run(*words) == 0
    assert json.loads((folder / "new.json").read_text()) == content


def test_long_lists_are_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = sound_content()
    content["categories"] += [{"id": 100 + i, "name": f"spare {i}"} for i in range(25)]
    write_json(folder / "set.json", content)
    assert run(folder / "set.json", "--no-images") == 2
    text = capsys.readouterr().out
    assert "(spare 19)" in text
    assert "(spare 20)" not in text
    assert "… and 5 more" in text
    assert run(folder / "set.json", "--no-images", "--show", "0") == 2
    assert "(spare 24)" in capsys.readouterr().out


def test_against_another_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = sound_content()
    content["images"] = content["images"][:1]
    content["annotations"] = content["annotations"][2:]
    write_json(folder / "other.json", content)
    words = (folder / "set.json", "--images", folder / "images", "--against", folder / "other.json")
    for more in ((), ("--no-images",), ("--other-images", folder / "images")):
        assert run(*words, *more) == 2
        text = capsys.readouterr().out
        assert "\nin-both-splits (1): " in text
        assert f"  - image 900 (z.png): also image 900 (z.png) of {folder / 'other.json'}\n" in text
        assert text.endswith("\n1 fault\n")
    assert run(folder / "set.json", "--no-images", "--against", folder / "other.json") == 0


def test_other_formats_are_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = folder / "images"
    for data_format, annotations in (
        ("voc", "voc/Annotations"),
        ("voc", "voc/ImageSets/Main/set.txt"),
        ("yolo", "yolo/labels"),
        ("yolo", "yolo/data.yaml"),
    ):
        if not (folder / data_format).exists():
            into = str(folder / data_format)
            main(["convert-data", str(folder / "set.json"), into, "--from", "coco", "--to", data_format])
        assert run(folder / annotations, "--images", images, "--ignore", "unused-category") == 0
        assert f"({data_format})" in capsys.readouterr().out
    (folder / "yolo/labels/z.txt").write_text("0 0.5 0.5 0 0.1\n")
    assert run(folder / "yolo/data.yaml", "--images", images, "--fix", folder / "new.json") == 2
    assert "annotation line 1 of image 3 (z.png): bbox [15, 9, 0, 2] in a picture of 30x20" in capsys.readouterr().out
    assert len(open_dataset("coco", folder / "new.json", images).boxes) == 1


def test_real_data(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bccd, output = shared / "data/bccd/annotations/instances_val.json", tmp_path / "new.json"
    words = (bccd, "--no-images", "--fix", output)
    assert run(*words) == 2
    text = capsys.readouterr().out
    assert "annotation 3951 of image 300 (BloodImage_00338.jpg): bbox " in text
    assert "\n1 fault\n" in text
    assert run(output, "--no-images") == 0
    coco = shared / "data/coco_excerpt"
    words = (coco / "annotations/instances_val2017.json", "--images", coco / "val2017", "--ignore", "unused-category")
    assert run(*words) == 0


def test_refusals(folder: Path) -> None:
    cases: list[tuple[list[object], str]] = [
        ([folder / "set.json"], "give the folder of the pictures with --images, or --no-images"),
        ([folder / "set.json", "--images", folder / "none"], "none: no such folder of pictures"),
        ([folder / "none.json", "--no-images"], r"none\.json: no such file or folder of annotations"),
        ([folder / "set.json", "--no-images", "--fix", folder / "a.txt"], r"whose name ends with \.json"),
        ([folder / "set.json", "--no-images", "--fix", folder / "set.json"], "would overwrite the annotations"),
        ([folder / "images", "--no-images"], "--images: YOLO's boxes are fractions of their sizes"),
        ([folder / "set.json", "--no-images", "--config", folder / "no.yaml"], r"no\.yaml: cannot read the config"),
        ([folder / "set.json", "--no-images", "--against", folder / "b.json"], r"b\.json: cannot read"),
    ]
    for words, message in cases:
        with pytest.raises(UserError, match=message):
            run(*words)


def test_a_wrong_folder_does_not_empty_the_set(folder: Path) -> None:
    (folder / "other").mkdir()
    with pytest.raises(UserError, match=r"other: has not even half of the pictures \(3 of 3 are missing\)"):
        run(folder / "set.json", "--images", folder / "other", "--fix", folder / "new.json")
    assert not (folder / "new.json").exists()


def test_as_a_command(project_root: Path, folder: Path) -> None:
    write_json(folder / "set.json", dirty_content())
    check = [sys.executable, "-m", "detector", "check-data"]
    command = [*check, str(folder / "set.json"), "--images", str(folder / "images")]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == ""
    done = subprocess.run([*check, str(folder)], cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: give the folder of the pictures")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_file_as_large_as_cocos_takes_seconds(project_root: Path, tmp_path: Path) -> None:
    path = write_large_file(tmp_path / "large.json")
    began = time.perf_counter()
    with open(tmp_path / "out.txt", "w") as output:
        command = [sys.executable, "-m", "detector", "check-data", str(path), "--no-images"]
        process = subprocess.Popen(command, cwd=project_root, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    print(f"\n{time.perf_counter() - began:.1f} s, {usage.ru_utime:.1f} s of processor, {usage.ru_maxrss / 1e6:.2f} GB")
    assert process.returncode == 0
    assert f"; {COCO_ANNOTATIONS} annotations, 0 of them crowd" in (tmp_path / "out.txt").read_text()
    assert usage.ru_utime < 60
    assert usage.ru_maxrss < 3e6


def test_sheets_do_not_become_pictures_of_a_yolo_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = layouts.flat_yolo(tmp_path / "set")
    for folder in (word, f"{word}/sheets"):
        with pytest.raises(UserError, match="would be pictures without labels from then on; choose another folder"):
            main(["check-data", f"data={word}", "--sheet", folder])
    monkeypatch.chdir(word)  # where the default folder of --weights would be
    weights = tmp_path / "w.safetensors"
    weights.touch()
    with pytest.raises(UserError, match=r"output/check_data: lies in .* choose another folder with --sheet"):
        main(["check-data", "data=.", "--weights", str(weights)])
    main(["check-data", f"data={word}", "--sheet", str(tmp_path / "sheets")])
    coco = Path(layouts.flat_coco(tmp_path / "coco")).parent  # whose file lists its pictures
    main(["check-data", f"data={coco}", "--sheet", str(coco)])
    assert {path.name for path in (*(tmp_path / "sheets").iterdir(), *coco.glob("*.jpg"))} == {"train.jpg"}


def test_a_model_says_which_labels_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = layouts.yolo_without_yaml(tmp_path / "set")
    config = tiny_config(num_classes=2, inputs={"min_size_test": 64, "max_size_test": 64})
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, tiny_model(config).state_dict(), config, CategoryMap.from_names(["dog", "cat"]), {})
    words = ["check-data", f"data={word}", "--device", "cpu"]
    assert main([*words, "--weights", str(weights), "--sheet", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"{split}{end}" for split in ("train", "val") for end in (".jpg", "_label_errors.csv")} <= names
    with open(tmp_path / "out/train_label_errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["file_name"] for row in rows} <= {f"{n}.png" for n in layouts.numbers("train")}
    assert capsys.readouterr().out.count("train_label_errors.csv") == 1

    places = {"annotations": f"{word}/labels/val", "images": f"{word}/images/val"}
    check = detector.check_data(**places, weights=weights, device="cpu", sheet=tmp_path / "python", most=1)
    assert "labels" in str(check)
    assert len((tmp_path / "python/val_label_errors.csv").read_text().splitlines()) <= 2

    with pytest.raises(UserError, match="--weights looks at pictures"):
        main([*words, "--weights", str(weights), "--no-images"])
    other = tmp_path / "other.safetensors"
    save_weights(other, tiny_model(config).state_dict(), config, CategoryMap.from_names(["dog", "horse"]), {})
    with pytest.raises(UserError, match="the weights know 2 categories"):
        main([*words, "--weights", str(other)])


def test_difficult_objects_are_counted_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = layouts.roboflow_voc(tmp_path / "set")
    path = tmp_path / "set/train/0.xml"
    path.write_text(path.read_text().replace("<name>", "<difficult>1</difficult><name>"))
    assert run(f"data={word}", "--no-images") == 0
    assert "4 annotations, 1 of them difficult objects; at most" in (said := capsys.readouterr().out)
    assert said.count("1 difficult object: ignored, as in VOC's own scoring") == 1
    (tmp_path / "detections.json").write_text("[]")
    for words in (
        ["--annotations", word + "/train", "--images", word + "/train"],
        [f"data={word}", "--split", "train"],
    ):
        assert main(["evaluate", "--detections", str(tmp_path / "detections.json"), *words]) == 0
        assert "1 difficult object: ignored, as in VOC's own scoring" in capsys.readouterr().out
