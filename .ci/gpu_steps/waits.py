"""How often the host waits for the device, in the detection of a picture and in a training step, and where.

On a GPU PyTorch itself says so (`torch.cuda.set_sync_debug_mode`); the pretended device says what its rules expect.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from device_cases import Trainer, network, training_batch  # noqa: E402
from pretended_gpu import PretendedGPU, pretended_gpu  # noqa: E402
from tiny_models import random_batch  # noqa: E402

from detector.fast.fuse import fuse  # noqa: E402


@contextmanager
def said_by_pytorch() -> Iterator[Counter[str]]:
    """Place → how often PyTorch says that the host waited there."""
    found: Counter[str] = Counter()

    def note(message: Any, *_rest: Any, **_more: Any) -> None:
        if "called a synchronizing" not in str(message):  # another says that not all of them are seen
            return
        ours = [f for f in traceback.extract_stack() if f.filename.startswith(str(ROOT / "detector"))]
        place = (
            f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno} {ours[-1].name}" if ours else "elsewhere"
        )
        found[place] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def said_by_the_rules(gpu: PretendedGPU) -> Iterator[Counter[str]]:
    """The same as the pretended device sees it."""
    found: Counter[str] = Counter()
    gpu.forget()
    yield found
    found.update(wait.place for wait in gpu.waits)


def calls(device: torch.device) -> dict[str, Callable[[], object]]:
    """What is watched: detection in one and in two pictures, and training steps on as many."""
    model, config = network("bottlenecks")
    fused = fuse(Trainer(model, config, device).model.eval(), torch.bfloat16)
    trainer = Trainer(model, config, device, "bfloat16")

    def detect(pictures: int) -> None:
        images = random_batch([(96, 128)] * pictures)
        with torch.inference_mode():
            for selection in fused(images.to(device)):
                selection.to(torch.device("cpu"))

    return {
        "detection, 1 picture": lambda: detect(1),
        "detection, 2 pictures": lambda: detect(2),
        "training step, 1 picture": lambda: trainer.step(training_batch(training_batch().targets[:1])),
        "training step, 2 pictures": lambda: trainer.step(training_batch()),
    }


def watch(device: torch.device, gpu: PretendedGPU | None) -> dict[str, Any]:
    """Each call's waits, after a first call that warms up."""
    results: dict[str, Any] = {}
    for name, call in calls(device).items():
        for _ in range(4):  # the third has come often enough for a CUDA graph
            call()
        with said_by_pytorch() if gpu is None else said_by_the_rules(gpu) as found:
            call()
        results[name] = {"waits": found.total(), "places": dict(found.most_common())}
        print(f"{name}: the host waits {found.total()} times", flush=True)
        for place, count in found.most_common():
            print(f"  {count:3} × {place}", flush=True)
    return results


def main() -> int:
    """Write what was seen as JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "pretended"), required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    device = torch.device("cuda", 0)
    if args.device == "pretended":
        with pretended_gpu() as gpu:
            write(args.output, {"expected": watch(device, gpu)})
        return 0
    beside = args.output.with_suffix(".expected.json")
    expecting = begin_expecting(beside)
    seen = {"seen": watch(device, None)}
    write(args.output, seen)
    code = expecting.wait()
    if code == 0:
        write(args.output, json.loads(beside.read_text()) | seen)
    return code


def begin_expecting(output: Path) -> "subprocess.Popen[bytes]":
    """The pretended device in a process that sees no other, since what kernels are chosen is kept by a process."""
    words = [sys.executable, __file__, "--device", "pretended", "--output", str(output)]
    return subprocess.Popen(words, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, stdout=subprocess.DEVNULL)


def write(output: Path, results: dict[str, Any]) -> None:
    """What is known so far, as JSON."""
    output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
