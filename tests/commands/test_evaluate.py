"""The scoring tool: published numbers, a model against its own predictions, what it writes, and its refusals."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from predictions import predict_in_processes
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import tiny_config, tiny_model
from tiny_run import run

import detector
from detector import process_group
from detector.categories import CategoryMap
from detector.commands.main import main
from detector.config import load_config, save_config
from detector.datasets.shapes import difficulty, scene
from detector.errors import UserError
from detector.evaluation import ground_truth
from detector.inference import detect
from detector.weights.files import save_weights

CATEGORIES = CategoryMap.from_coco([{"id": key, "name": name} for key, name in difficulty.CATEGORIES.items()])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of the embedded set with annotations, `val.json` and `val/`."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "val").mkdir()
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES.to_coco()}
    ids = {name: key for key, name in difficulty.CATEGORIES.items()}
    for index in range(3):
        pixels, annotations = scene.render_scene(1, index)
        cv2.imwrite(str(folder / "val" / f"{index}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        height, width = pixels.shape[:2]
        coco["images"].append({"id": 40 + index, "file_name": f"{index}.png", "height": height, "width": width})
        coco["annotations"] += [
            {"id": 0, "image_id": 40 + index, "category_id": ids[a.name], "bbox": list(a.box), "area": a.area}
            for a in annotations
        ]
    (folder / "val.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A model that was trained beside that val split, but badly."""
    config = tiny_config(num_classes=6, inputs={"min_size_test": 96, "max_size_test": 160})
    places = {"val_annotations": str(data / "val.json"), "val_images": str(data / "val"), "num_workers": 0}
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **places))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})
    save_config(config, path.with_name("config.yaml"))
    return path


@pytest.mark.slow
def test_two_processes_under_torchrun_give_the_numbers_of_one(weights: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--weights", str(weights), "--device", "cpu", "--num-workers", "0"]
    assert main([*words, "--output", str(tmp_path / "one")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "detector"]
    both = run([*launch, *words, "--output", str(tmp_path / "two"), "--report"], timeout=600)
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("COCO metrics by") == 1  # the first process speaks for both
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one == two
    found = [json.loads((tmp_path / name / "detections.json").read_text()) for name in ("one", "two")]
    by_picture = [sorted(rows, key=lambda row: (row["image_id"], -row["score"], row["bbox"])) for rows in found]
    assert len(by_picture[0]) > 0
    assert by_picture[0] == by_picture[1]
    assert (tmp_path / "two/label_errors.csv").is_file()


def kill_the_second() -> None:
    """Let process 1 die when its pictures are done."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ.get("RANK") == "1":
        detect.gather_results = die  # type: ignore[assignment]


def test_two_processes_write_what_one_does_and_a_dead_one_is_a_sentence(weights: Path, tmp_path: Path) -> None:
    def words(output: str) -> list[str]:
        fixed = ["--weights", str(weights), "--device", "cpu", "--num-workers", "0", "--output", str(tmp_path / output)]
        return [*fixed, "model.detection.score_threshold=0.001"]

    def evaluate(
        words: list[str], screens: str, count: int = 2, prepare: Callable[[], object] | None = None
    ) -> list[int]:
        return predict_in_processes(words, tmp_path / screens, count, prepare=prepare, name="evaluate")

    assert evaluate(words("one"), "alone", 1) == [0]
    assert evaluate(words("two"), "screens") == [0, 0], (tmp_path / "screens/0.txt").read_text()
    for name in ("metrics.json", "detections.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert len(json.loads((tmp_path / "one/detections.json").read_text())) > 3

    dead = evaluate(words("dead"), "dead", prepare=kill_the_second)
    screen = (tmp_path / "dead/0.txt").read_text()
    assert dead == [2, -signal.SIGKILL], screen
    assert "error: process 0 has lost another process of this run (" in screen.splitlines()[-1]

    # A file of detections is scored by one.
    truth = load_config(weights.with_name("config.yaml")).data.val_annotations
    results = ["--detections", str(tmp_path / "one/detections.json"), "--annotations", str(truth)]
    assert evaluate(results, "results") == [0, 0]
    said = [(tmp_path / f"results/{rank}.txt").read_text().count("COCO metrics by") for rank in (0, 1)]
    assert said == [1, 0]


def test_published_numbers_of_a_results_file(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "data" / "eval_val2014_100"
    files = [
        "--detections",
        str(folder / "instances_val2014_fakebbox100_results.json"),
        "--annotations",
        str(folder / "instances_val2014_100.json"),
    ]
    assert main(["evaluate", *files, "--output", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    per_class = metrics.pop("per_class")
    assert metrics == pytest.approx(expected["stats"], rel=0, abs=1e-9)
    assert {str(one["category_id"]): one["AP"] for one in per_class} == pytest.approx(
        expected["AP_per_category"], rel=0, abs=1e-9
    )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["metrics.json"]
    printed = capsys.readouterr().out
    assert "734 of them" in printed
    assert " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.505" in printed
    assert main(["evaluate", *files, "--evaluator", "hotcoco"]) == 0
    again = capsys.readouterr().out
    assert again == printed.replace("by pycocotools", "by hotcoco").split("\nwrote")[0]


def test_model_on_the_val_split_of_its_config(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", str(weights), "--device", "cpu", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"annotations {data / 'val.json'}, 3 images in {data / 'val'}" in printed
    detections = json.loads((tmp_path / "detections.json").read_text())
    model = detector.load(weights, device="cpu")
    predicted = [model.predict(data / "val" / f"{i}.png", score_threshold=0).to_coco(image_id=40 + i) for i in range(3)]
    assert detections == [one for image in predicted for one in image]
    assert len(detections) > 10
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {one["name"]: one["detections"] for one in metrics["per_class"]} == {
        name: sum(d["category_id"] == key for d in detections) for key, name in difficulty.CATEGORIES.items()
    }

    # The file scores as the model did.
    saved = ["--detections", str(tmp_path / "detections.json"), "--annotations", str(data / "val.json")]
    assert main(["evaluate", *saved, "--output", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == metrics


def test_nothing_found_scores_zero_and_says_what_may_be_wrong(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.json").write_text("[]")
    words = ["--detections", str(tmp_path / "none.json"), "--annotations", str(data / "val.json")]
    assert main(["evaluate", *words, "--output", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["AP"] == 0
    assert "hint: there is nothing to score" in capsys.readouterr().out


def test_data_and_settings_from_the_command_line(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = json.loads((data / "val.json").read_text())
    renumber = {category["id"]: category["id"] + 100 for category in coco["categories"]}
    coco["categories"] = [{"id": renumber[c["id"]], "name": c["name"]} for c in coco["categories"]]
    coco["annotations"] = [a | {"category_id": renumber[a["category_id"]]} for a in coco["annotations"]]
    (tmp_path / "mine.json").write_text(json.dumps(coco))
    words = ["--weights", str(weights), "--device", "cpu", "--batch-size", "2", "model.detection.max_per_image=5"]
    words.append("epochs=3")
    own_data = ["--annotations", str(tmp_path / "mine.json"), "--images", str(data / "val")]
    assert main(["evaluate", *words, *own_data, "--output", str(tmp_path), "model.detection.score_threshold=0"]) == 0
    detections = json.loads((tmp_path / "detections.json").read_text())
    assert {d["image_id"] for d in detections} == {40, 41, 42}
    assert len(detections) == 15
    assert {d["category_id"] for d in detections} <= set(renumber.values())
    printed = capsys.readouterr().out
    assert "mine.json" in printed
    assert "void        epochs=3: it belongs to training." in printed


def test_a_weights_file_does_not_choose_what_is_read_or_written(tmp_path: Path) -> None:
    """A file of an earlier version holds the whole config of its run, and whoever made it could write any into it."""
    config = tiny_config(num_classes=6)
    path, canary = tmp_path / "theirs" / "w.safetensors", tmp_path / "canary"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})
    with safe_open(path, "pt") as file:
        stored = json.loads(file.metadata()["detector"])
    places = {"generate": "shapes", "val_annotations": str(canary / "val.json"), "val_images": str(canary / "val")}
    stored["config"]["data"] = places
    save_file(load_file(path), path, metadata={"detector": json.dumps(stored)})
    with pytest.raises(UserError, match=r"no config\.yaml of a training run lies beside it.* give --annotations"):
        main(["evaluate", "--weights", str(path), "--device", "cpu"])
    (path.parent / "config.yaml").write_text(json.dumps({"data": places}))
    with pytest.raises(UserError, match=r"canary/val\.json, of the embedded set .* is not there; training renders it"):
        main(["evaluate", "--weights", str(path), "--device", "cpu"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["theirs"]
    (path.parent / "config.yaml").write_text("model: {num_classes: 6}\n")
    with pytest.raises(UserError, match=r"config\.yaml: names no val split; give --annotations"):
        main(["evaluate", "--weights", str(path), "--device", "cpu"])


def test_the_weights_of_a_checkpoint_belong_to_the_run_above_them(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "iteration_0000005" / "model.safetensors"
    checkpoint.parent.mkdir(parents=True)
    shutil.copy(weights, checkpoint)
    shutil.copy(weights.with_name("config.yaml"), tmp_path / "run" / "config.yaml")
    assert main(["evaluate", "--weights", str(checkpoint), "--device", "cpu"]) == 0
    assert f"annotations {data / 'val.json'}" in capsys.readouterr().out


def test_other_categories(weights: Path, data: Path, tmp_path: Path) -> None:
    coco = json.loads((data / "val.json").read_text())
    coco["categories"][0]["name"] = "puck"
    (tmp_path / "val.json").write_text(json.dumps(coco))
    own_data = ["--annotations", str(tmp_path / "val.json"), "--images", str(data / "val")]
    with pytest.raises(UserError, match=r"know 6 categories \(3 disc, .*annotations have 6 \(3 puck, "):
        main(["evaluate", "--weights", str(weights), "--device", "cpu", *own_data])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either --weights"),
        (["--weights", "a", "--detections", "b", "--annotations", "c"], "give either --weights"),
        (["--detections", "d.json"], "--detections needs --annotations or data=FOLDER"),
        (["--weights", "w", "--annotations", "a.json"], "--annotations and --images belong together"),
        (["--detections", "d.json", "--annotations", "a.json", "train.seed=1"], "settings change a model"),
        (["--detections", "d.json", "--annotations", "a.json"], r"a\.json: cannot read the annotations"),
        (["--weights", "R50-C4-4x"], r"no such published name; did you mean R50-C4"),
        (
            ["--weights", "R50-C4-3x", "--annotations", ".", "--images", "nowhere"],
            "nowhere: no such folder of pictures",
        ),
    ],
)
def test_refusals(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["evaluate", *words])


def test_an_unreadable_picture_is_left_out_and_said(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "val", tmp_path / "val")
    (tmp_path / "val/1.png").write_bytes(b"no picture")
    own_data = ["--annotations", str(data / "val.json"), "--images", str(tmp_path / "val")]
    words = ["--weights", str(weights), "--device", "cpu", *own_data, "--output", str(tmp_path / "out")]
    assert main(["evaluate", *words, "--num-workers", "0", "model.detection.score_threshold=0", "--report"]) == 2
    printed = capsys.readouterr()
    assert "1.png: not a picture of a known format" in printed.err
    assert "counts as a picture in which nothing was found" in printed.err
    assert "INCOMPLETE: these are not the numbers of the whole set" in printed.out
    detections = json.loads((tmp_path / "out/detections.json").read_text())
    assert {d["image_id"] for d in detections} == {40, 42}
    (said,) = json.loads((tmp_path / "out/metrics.json").read_text())["unreadable_images"]
    assert "1.png: not a picture" in said
    assert "INCOMPLETE" in (tmp_path / "out/report.html").read_text()

    # Nor are these detections those of the whole set for whoever scores the file.
    annotations = ["--annotations", str(data / "val.json")]
    assert main(["evaluate", "--detections", str(tmp_path / "out/detections.json"), *annotations]) == 2
    assert "INCOMPLETE" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "out"), *annotations]) == 0
    assert "INCOMPLETE" in capsys.readouterr().out
    assert "INCOMPLETE" in (tmp_path / "out/report.html").read_text()

    strict = [*words, "--num-workers", "0", "data.skip_unreadable_images=false"]
    with pytest.raises(UserError, match=r"1\.png: not a picture"):
        main(["evaluate", *strict])


def test_the_ground_truth_is_read_where_it_is_scored(
    weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(dataset: object) -> None:
        raise AssertionError(f"the ground truth of {dataset} was read")

    monkeypatch.setattr(ground_truth, "ground_truth_of", refuse)
    monkeypatch.setattr(process_group, "is_main", lambda: False)
    own_data = ["--annotations", str(data / "val.json"), "--images", str(data / "val")]
    assert main(["evaluate", "--weights", str(weights), "--device", "cpu", *own_data, "--num-workers", "0"]) == 0
    assert capsys.readouterr().out == ""


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["evaluate", "--help"])
    assert exit_info.value.code == 0
    assert "faster-rcnn evaluate --detections output/coco/detections.json" in capsys.readouterr().out


def test_augmented_detections_of_an_ensemble_are_scored(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", str(weights), str(weights), "--device", "cpu", "--augment", "--output", str(tmp_path)]
    assert main(["evaluate", *words]) == 0
    assert "augment     average, 2 models, 4 views of each picture" in capsys.readouterr().out
    model = detector.load([weights, weights], device="cpu")
    predicted = [model.predict(data / "val" / f"{i}.png", 0, augment=True).to_coco(image_id=40 + i) for i in range(3)]
    detections = json.loads((tmp_path / "detections.json").read_text())
    assert detections == [one for image in predicted for one in image]
    assert len(detections) > 10
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert detector.evaluate([weights, weights], augment=True, device="cpu", num_workers=0) == metrics
