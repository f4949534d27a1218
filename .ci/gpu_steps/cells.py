"""Train `r50c4_bccd` for as long as there is time, and score it: AP and AP50 on blood cells from real ImageNet weights.

How many iterations fit is measured first, on a few of them; the schedule is then made for that many.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "r50c4_bccd.yaml"
PROBE = 40  # iterations; the first half warms up
RESERVE = 30.0  # seconds for starting, scoring 87 pictures and writing


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


def read_lines(path: Path) -> list[dict[str, float]]:
    """A run's metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().split("\n") if line]


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
    last = [line for line in read_lines(args.output / "probe" / "metrics.jsonl") if "images_per_second" in line][-1]
    seconds_a_step = last["seconds"] / (probed // 2)
    left = available - RESERVE - (time.monotonic() - began)
    iterations = 4 if args.quick else max(50, min(2500, int(left / seconds_a_step)))
    print(f"{seconds_a_step:.3f} s a step, {left:.0f} s left: {iterations} iterations", flush=True)

    run = args.output / "run"
    length = [f"train.iterations={iterations}", f"train.warmup_iterations={min(250, iterations // 10 + 1)}"]
    train(run, device, [*words, *length])
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    steps = [line for line in read_lines(run / "metrics.jsonl") if "images_per_second" in line]
    results = {
        "iterations": iterations,
        "seconds_a_step": seconds_a_step,
        "images_per_second": steps[-1]["images_per_second"],
        "share_of_time_waiting_for_pictures": steps[-1]["data_wait"],
        "memory_bytes": steps[-1]["memory_bytes"],
        "seconds": time.monotonic() - began,
    } | {key: metrics[key] for key in ("AP", "AP50", "AP75")}
    (args.output / "results.json").write_text(json.dumps(results, indent=1))
    (args.output / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text())
    print(json.dumps(results), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
