"""Train `r50c4_bccd` for as long as there is time, and score it: AP and AP50 on blood cells from real ImageNet weights.

How many iterations fit is measured first, on a few of them; the schedule is then made for that many. The model that
comes of it is scored in every precision that there is for detection: bfloat16 is to be a GPU's default where it has
float32's AP, and only there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "r50c4_bccd.yaml"
PROBE = 40  # iterations; the first half warms up
RESERVE = 65.0  # seconds for starting, scoring 87 pictures four times and writing; 45 were too few on an H200
CAUTION = 0.95  # of the time that is left, since the probe may have been lucky
PRECISIONS = {"cuda": ("float32", "tf32", "bfloat16"), "cpu": ("float32", "bfloat16")}
# Differences of AP and AP50 that count as none: on 87 pictures one box more or less is worth about a thousandth.
EQUAL = 0.003
LEARNT = 0.4  # AP from which on a model has learnt enough to show that a precision loses nothing


def settings(shared: Path, device: str, quick: bool) -> list[str]:
    """The recipe's data and weights, from the carried folder; small problems where only the script is tried."""
    data = shared / "data" / "bccd"
    words = ["data.format=coco", f"data.train_images={data}/images", f"data.val_images={data}/images"]
    words += [f"data.{split}_annotations={data}/annotations/instances_{split}.json" for split in ("train", "val")]
    words += [f"model.backbone.weights={shared}/data/weights/resnet50_c4_msra_fp16.pth"]
    # The carried file ends with conv4_x, so conv5_x starts fresh, with a live norm; from Caffe its channels are BGR.
    words += ["model.backbone.weights_channels=bgr", "model.backbone.conv5_norm=group"]
    words += ["train.save_every=100000", "train.tensorboard=false", "train.sample_pictures=0"]
    words += ["train.validation_loss=false", "train.log_every=10", "train.evaluate_every=0"]
    if device == "cuda":
        words.append(f"data.num_workers={min(12, os.cpu_count() or 2)}")
    if quick:
        words += ["input.min_size_train=[96]", "input.min_size_test=96", "input.max_size_train=160"]
        words += ["input.max_size_test=160", "train.batch_size=2", "model.roi.batch_size_per_image=8"]
        words += ["model.rpn.post_nms_top_n_test=20", "data.num_workers=1"]
    return words


def train(output: Path, device: str, words: list[str]) -> None:
    """Raises CalledProcessError where training fails."""
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--config", str(RECIPE), "--device", device]
    subprocess.run([*command, "--output", str(output), "--overwrite", *words], cwd=ROOT, check=True)


def score(weights: Path, shared: Path, device: str, output: Path) -> dict[str, dict[str, float]]:
    """Precision → AP, AP50 and AP75 of these weights, each in a process of its own, beside each other.

    A precision that failed is left out; its output says why.
    """
    data = shared / "data" / "bccd"
    words = [sys.executable, "-m", "detector", "evaluate", "--weights", str(weights), "--device", device]
    words += ["--annotations", str(data / "annotations" / "instances_val.json"), "--images", str(data / "images")]
    runs = {
        precision: subprocess.Popen(
            [*words, "--precision", precision, "--output", str(output / precision)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        for precision in PRECISIONS[device]
    }
    metrics = {
        precision: json.loads((output / precision / "metrics.json").read_text())
        for precision, run in runs.items()
        if run.wait() == 0
    }
    return {precision: {key: of_run[key] for key in ("AP", "AP50", "AP75")} for precision, of_run in metrics.items()}


def default_precision(scores: dict[str, dict[str, float]]) -> str:
    """What a GPU's default should be for detection, by these scores, in a sentence."""
    if not {"float32", "bfloat16"} <= scores.keys():
        return "the default for detection stays float32: not every precision was scored"
    if scores["float32"]["AP"] < LEARNT:
        return f"the default for detection stays float32: AP {scores['float32']['AP']:.4f} is too low to show anything"
    moved = {key: scores["bfloat16"][key] - scores["float32"][key] for key in ("AP", "AP50")}
    said = ", ".join(f"{key} {scores['bfloat16'][key]:.4f} ({by:+.4f})" for key, by in moved.items())
    if all(abs(by) <= EQUAL for by in moved.values()):
        return f"the default for detection should be bfloat16: {said}"
    return f"the default for detection stays float32, since bfloat16 moves it: {said}"


def read_steps(run: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl about its steps."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n") if line]
    return [line for line in lines if "images_per_second" in line]


def main() -> int:
    """Probe, train, and write `results.json`; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "pretended"), required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    began, available = time.monotonic(), float(os.environ.get("STEP_SECONDS", "180"))
    device = "cuda" if args.device == "cuda" else "cpu"
    words = settings(args.shared, device, args.quick)

    probed = 4 if args.quick else PROBE
    short = [f"train.iterations={probed}", f"train.warmup_iterations={probed}", f"train.log_every={probed // 2}"]
    train(args.output / "probe", device, [*words, *short, "data.val_annotations=null", "data.val_images=null"])
    last = read_steps(args.output / "probe")[-1]
    seconds_a_step = last["seconds"] / (probed // 2)
    left = available - RESERVE - (time.monotonic() - began)
    iterations = 4 if args.quick else max(50, min(2500, int(CAUTION * left / seconds_a_step)))
    results: dict[str, Any] = {"iterations": iterations, "seconds_a_step": seconds_a_step}
    write(args.output, results)
    print(f"{seconds_a_step:.3f} s a step, {left:.0f} s left: {iterations} iterations", flush=True)

    run = args.output / "run"
    length = [f"train.iterations={iterations}", f"train.warmup_iterations={min(250, iterations // 10 + 1)}"]
    train(run, device, [*words, *length])
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    last = read_steps(run)[-1]
    results |= {
        "images_per_second": last["images_per_second"],
        "share_of_time_waiting_for_pictures": last["data_wait"],
        "memory_bytes": last["memory_bytes"],
    } | {key: metrics[key] for key in ("AP", "AP50", "AP75")}
    write(args.output, results)
    results["precisions"] = score(run / "model_final.safetensors", args.shared, device, args.output / "scored")
    results["default_precision"] = default_precision(results["precisions"])
    results["seconds"] = time.monotonic() - began
    write(args.output, results)
    print(json.dumps(results, indent=1), flush=True)
    print(f"AP {metrics['AP']:.4f} (goal 0.60), AP50 {metrics['AP50']:.4f} (goal 0.88)\n{results['default_precision']}")
    return 0 if len(results["precisions"]) == len(PRECISIONS[device]) else 1


def write(output: Path, results: dict[str, Any]) -> None:
    """What is known so far: the time may end in the middle."""
    (output / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
