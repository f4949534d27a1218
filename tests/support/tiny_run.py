"""A training run of seconds: a small network on a handful of rendered rectangles."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from detector.config import Config, load_config

PROJECT = Path(__file__).resolve().parents[2]
TRAIN_NET = PROJECT / "tools" / "train_net.py"
CATEGORIES = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]

SETTINGS = [
    "model.backbone.depth=18",
    "model.backbone.width=8",
    "model.backbone.stem_channels=8",
    "model.backbone.norm=group",
    "model.backbone.freeze_stages=0",
    "model.rpn.channels=16",
    "model.rpn.anchor_sizes=[16, 32, 64]",
    "model.rpn.batch_size_per_image=32",
    "model.rpn.pre_nms_top_n_train=100",
    "model.rpn.post_nms_top_n_train=50",
    "model.rpn.pre_nms_top_n_test=100",
    "model.rpn.post_nms_top_n_test=20",
    "model.roi.batch_size_per_image=16",
    "model.roi.pooled_size=4",
    "input.min_size_train=[80, 96]",
    "input.max_size_train=160",
    "input.min_size_test=96",
    "input.max_size_test=160",
    "data.num_workers=0",
    "train.iterations=12",
    "train.batch_size=4",
    "train.learning_rate=0.02",
    "train.reference_batch_size=null",
    "train.warmup_iterations=4",
    "train.milestones=[8]",
    "train.log_every=1",
    "train.evaluate_every=6",
    "train.save_every=4",
    "train.sample_pictures=1",
    "train.tensorboard=false",
]


def write_dataset(folder: Path, train: int = 10, val: int = 5, one_shape: bool = False) -> list[str]:
    """Render pictures of rectangles with COCO annotations; the settings that name them.

    one_shape: all pictures are wide, where else every second one is tall.
    """
    settings = []
    for split, count, seed in (("train", train, 1), ("val", val, 2)):
        rng = np.random.default_rng(seed)
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for image_id in range(1, count + 1):
            height, width = (96, 128) if one_shape or image_id % 2 else (128, 96)
            pixels = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
            images.append({"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height})
            # The last picture of a split has no object.
            for _ in range(0 if image_id == count else int(rng.integers(1, 4))):
                size = rng.integers(16, 48, 2)
                x, y = int(rng.integers(0, width - size[0])), int(rng.integers(0, height - size[1]))
                category = CATEGORIES[int(rng.integers(2))]
                pixels[y : y + size[1], x : x + size[0]] = (230, 40, 30) if category["id"] == 3 else (20, 60, 230)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category["id"],
                        "bbox": [x, y, int(size[0]), int(size[1])],
                        "area": int(size[0] * size[1]),
                        "iscrowd": 0,
                    }
                )
            cv2.imwrite(str(folder / split / f"{image_id}.png"), pixels[..., ::-1])
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (folder / f"{split}.json").write_text(json.dumps(content))
        settings += [f"data.{split}_annotations={folder}/{split}.json", f"data.{split}_images={folder}/{split}"]
    return settings


def tiny_config(data: Sequence[str], *changes: str) -> Config:
    """The config of a tiny run on `write_dataset`'s data; later settings win."""
    return load_config(None, [*SETTINGS, *data, *changes])


def train_command(output: Path, *words: str) -> list[str]:
    """The command line of a training run."""
    return [sys.executable, str(TRAIN_NET), "--device", "cpu", "--output", str(output), *words]


def torchrun_command(processes: int, output: Path, *words: str, restarts: int = 0) -> list[str]:
    """The same for several processes."""
    launcher = ["--standalone", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *launcher, *train_command(output, *words)[1:]]


def environment(**more: str) -> dict[str, str]:
    """One thread per process, so that runs side by side compute the same sums."""
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | more


def run(command: Sequence[str], timeout: float = 120, **more: str) -> subprocess.CompletedProcess[str]:
    """Run to the end. A command that hangs is ended with all its processes, and raises TimeoutExpired."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def losses(output: Path) -> dict[int, dict[str, float]]:
    """Iteration → losses, from metrics.jsonl."""
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().split("\n") if line]
    steps = [entry for entry in entries if "losses" in entry]
    assert len({entry["iteration"] for entry in steps}) == len(steps), "an iteration is there twice"
    return {entry["iteration"]: entry["losses"] for entry in steps}


def assert_same_bits(first: Path, second: Path) -> None:
    """Two tensor files hold the same names and the same bits."""
    a, b = load_file(first), load_file(second)
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"{len(different)} of {len(a)} tensors differ, the first is {different[0]}"
