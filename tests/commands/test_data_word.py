"""`data=FOLDER` means the same to training, scoring and checking."""

import json
from pathlib import Path

import folder_layouts as layouts
import pytest
from tiny_run import SETTINGS

from detector.commands.main import main
from detector.config import load_config
from detector.errors import UserError

SCHEDULE = ("train.iterations", "train.milestones", "train.warmup", "train.evaluate_every", "train.save_every")
NETWORK = [word for word in SETTINGS if not word.startswith((*SCHEDULE, "train.batch_size"))]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Recipes are fitted as where no published weights can be had."""
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


def train(word: str, output: Path) -> int:
    return main(["train", f"data={word}", "--output", str(output), "--device", "cpu", *NETWORK, "epochs=1", "batch=2"])


def test_three_commands_understand_one_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = layouts.roboflow_coco(tmp_path / "set")
    output = tmp_path / "run"
    assert train(word, output) == 0
    printed = capsys.readouterr().out
    assert f"data {word}: Roboflow export, COCO; splits train, val, test" in printed
    assert "data as understood (coco)" in printed
    assert "placeholder-category" in printed
    assert "train.epochs=1: 1 × 4 pictures / 2 a step = train.iterations=2" in printed
    written = load_config(output / "config.yaml")
    assert (written.train.iterations, written.train.epochs, written.model.num_classes) == (2, None, 2)
    assert written.data.test_annotations == f"{word}/test/_annotations.coco.json"

    weights = ["--weights", str(output / "model_final.safetensors"), "--device", "cpu", "--num-workers", "0"]
    scores = []
    for name, more in {"run": ["--split", "test"], "word": [f"data={word}", "--split", "test"]}.items():
        assert main(["evaluate", *weights, *more, "--output", str(tmp_path / name)]) == 0
        scores.append(json.loads((tmp_path / name / "detections.json").read_text()))
        assert {row["image_id"] for row in scores[-1]} <= set(layouts.numbers("test"))
    assert scores[0] == scores[1]
    detections = ["--detections", str(tmp_path / "run" / "detections.json")]
    assert main(["evaluate", *detections, f"data={word}", "--split", "test"]) == 0
    with pytest.raises(UserError, match="both say what to score on"):
        main(["evaluate", *detections, f"data={word}", "--annotations", str(output / "config.yaml")])

    capsys.readouterr()
    assert main(["check-data", f"data={word}"]) == 2
    printed = capsys.readouterr().out
    assert all(f"\n{split}: " in printed for split in ("train", "val", "test"))
    assert "category 0 (pets)" in printed
    with pytest.raises(UserError, match="leave out --images"):
        main(["check-data", f"data={word}", "--images", word])


def test_a_picture_in_two_splits_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = layouts.roboflow_voc(tmp_path / "set")
    assert main(["check-data", f"data={word}"]) == 0
    (tmp_path / "set/test/200.png").write_bytes((tmp_path / "set/train/0.png").read_bytes())
    assert main(["check-data", f"data={word}", "--no-images"]) == 0
    assert main(["check-data", f"data={word}"]) == 2
    assert "200.png" in capsys.readouterr().out


def test_a_class_that_training_lacks_is_a_fault_of_a_voc_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = layouts.roboflow_voc(tmp_path / "set")
    path = tmp_path / "set/valid/100.xml"
    path.write_text(path.read_text().replace(">cat<", ">cow<"))
    assert main(["check-data", f"data={word}", "--no-images"]) == 2
    assert f"class cow is not in {word}/train" in capsys.readouterr().out


def test_a_yaml_file_of_val_alone_is_scored_and_checked_and_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.ultralytics(tmp_path)
    word = str(tmp_path / "pets.yaml")
    Path(word).write_text("val: images/val\nnames: [cat, dog]\n")
    results = tmp_path / "results.json"
    rows = [
        {"image_id": place + 1, "category_id": layouts.label(n) + 1, "bbox": layouts.box(n), "score": 0.9}
        for place, n in enumerate(layouts.numbers("val"))
    ]
    results.write_text(json.dumps(rows))
    assert main(["evaluate", "--detections", str(results), f"data={word}", "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["AP"] == pytest.approx(1)
    assert f"annotations {word}\n" in capsys.readouterr().out
    assert main(["check-data", f"data={word}"]) == 0
    assert "\nval: " in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"has only the val split, so there is nothing to train on\. Write train: FOLDER"
    ):
        main(["train", f"data={word}", "--output", str(tmp_path / "run")])
    with pytest.raises(UserError, match="has only the val split"):
        main(["evaluate", "--detections", str(results), f"data={word}", "--split", "train"])
    Path(word).write_text("train: ../train\nval: images/val\nnames: [cat, dog]\n")
    assert main(["evaluate", "--detections", str(results), f"data={word}"]) == 0
    with pytest.raises(UserError, match=r"its train split, '\.\./train', is not there\. Correct"):
        main(["train", f"data={word}", "--output", str(tmp_path / "run")])
    capsys.readouterr()
    assert main(["check-data", f"data={word}"]) == 2
    printed = capsys.readouterr().out
    assert "missing-split (1): the train split is named and not there.\n" in printed
    assert "its train split, '../train', is not there. Correct its path." in printed
    assert "\nval: " in printed
    assert main(["check-data", f"data={word}", "--ignore", "missing-split"]) == 0


def test_of_a_set_without_splits_the_part_that_is_scored_is_said_and_all_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = layouts.flat_coco(tmp_path / "set")
    results = tmp_path / "results.json"
    results.write_text("[]")
    evaluate = ["evaluate", "--detections", str(results), f"data={word}"]
    assert main(evaluate) == 0
    printed = capsys.readouterr().out
    assert "a part of it is scored, which training holds out; all of it: --split train data.hold_out=0" in printed
    assert "val           2 " in printed
    assert main([*evaluate, "--split", "train", "data.hold_out=0"]) == 0
    printed = capsys.readouterr().out
    assert "train         8 " in printed
    assert "a part of it" not in printed
    with pytest.raises(UserError, match=r"names no test split; .*, or choose train with"):
        main([*evaluate, "--split", "test"])


@pytest.mark.slow
@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_every_layout_trains_with_one_word(tmp_path: Path, name: str) -> None:
    word = layouts.LAYOUTS[name][0](tmp_path / "set")
    assert train(word, tmp_path / "run") == 0
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.data.format == layouts.LAYOUTS[name][1]
    # The same run again, from what was written alone.
    again = ["train", "--config", str(tmp_path / "run/config.yaml"), "--output", str(tmp_path / "again")]
    assert main([*again, "--device", "cpu"]) == 0
    files = [tmp_path / run / "evaluation/metrics.json" for run in ("run", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
